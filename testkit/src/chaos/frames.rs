//! Cuts a stream of bytes into the messages of its protocol, however the bytes arrive. When the stream is not
//! in the protocol, the framer passes the rest through uncut. It must neither hold bytes back indefinitely
//! nor lose one.

use bytes::BytesMut;

use super::scan::Scan;
use super::wire::{Direction, Wire};
use super::{postgres, redis};

/// A piece of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// One complete message.
    Message(BytesMut),
    /// Bytes cut at an arbitrary position.
    Raw(BytesMut),
}

/// One direction of one connection.
#[derive(Debug)]
pub(super) struct Framer {
    buffer: BytesMut,
    scanner: Scanner,
}

#[derive(Debug)]
enum Scanner {
    None,
    Redis(redis::Scanner),
    Postgres(postgres::Scanner),
}

impl Framer {
    pub(super) fn new(wire: Wire, direction: Direction) -> Self {
        let scanner = match wire {
            Wire::Plain => Scanner::None,
            Wire::Redis => Scanner::Redis(redis::Scanner::default()),
            Wire::Postgres => Scanner::Postgres(postgres::Scanner::new(direction)),
        };
        Self { buffer: BytesMut::new(), scanner }
    }

    /// The buffer that receives incoming bytes.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next complete piece.
    pub(super) fn next(&mut self) -> Option<Piece> {
        if self.buffer.is_empty() {
            return None;
        }
        let scan = match &mut self.scanner {
            Scanner::None => return Some(Piece::Raw(self.rest())),
            Scanner::Redis(scanner) => scanner.scan(&self.buffer),
            Scanner::Postgres(scanner) => scanner.scan(&self.buffer),
        };
        match scan {
            Scan::Complete(length) => Some(Piece::Message(self.buffer.split_to(length))),
            Scan::Partial => None,
            Scan::Garbage => {
                self.scanner = Scanner::None;
                Some(Piece::Raw(self.rest()))
            }
        }
    }

    /// The buffered bytes, for when no more will arrive.
    pub(super) fn rest(&mut self) -> BytesMut {
        self.buffer.split()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The messages in `bytes` when they arrive in chunks of these lengths, and the bytes left over.
    fn cut(wire: Wire, direction: Direction, bytes: &[u8], chunks: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut framer = Framer::new(wire, direction);
        let (mut messages, mut rest) = (Vec::new(), Vec::new());
        let mut left = bytes;
        for length in chunks.iter().copied().chain([bytes.len()]) {
            let (chunk, later) = left.split_at(length.min(left.len()));
            left = later;
            framer.buffer().extend_from_slice(chunk);
            while let Some(piece) = framer.next() {
                match piece {
                    Piece::Message(message) => messages.push(message.to_vec()),
                    Piece::Raw(raw) => rest.extend_from_slice(&raw),
                }
            }
        }
        rest.extend_from_slice(&framer.rest());
        (messages, rest)
    }

    fn redis_message() -> impl Strategy<Value = Vec<u8>> {
        let bulk = vec(any::<u8>(), 0..40).prop_map(|bytes| {
            let mut value = format!("${}\r\n", bytes.len()).into_bytes();
            value.extend_from_slice(&bytes);
            value.extend_from_slice(b"\r\n");
            value
        });
        let simple = prop_oneof![
            Just("+OK\r\n"),
            Just("-ERR no\r\n"),
            Just(":-7\r\n"),
            Just("$-1\r\n"),
            Just("*-1\r\n"),
            Just("_\r\n"),
            Just("#t\r\n"),
            Just(",1.5\r\n"),
        ];
        let leaf = prop_oneof![bulk, simple.prop_map(|text| text.as_bytes().to_vec())];
        leaf.prop_recursive(4, 64, 6, |inner| {
            (prop_oneof![Just('*'), Just('~'), Just('>'), Just('%'), Just('|')], vec(inner, 1..6)).prop_map(
                |(kind, values)| {
                    // A map counts pairs. An attribute is followed by the value it annotates.
                    let count = if kind == '%' || kind == '|' { values.len() / 2 } else { values.len() };
                    let used = match kind {
                        '%' => count * 2,
                        '|' => count * 2 + 1,
                        _ => count,
                    };
                    let mut message = format!("{kind}{count}\r\n").into_bytes();
                    for value in values.iter().cycle().take(used) {
                        message.extend_from_slice(value);
                    }
                    message
                },
            )
        })
    }

    fn postgres_message() -> impl Strategy<Value = Vec<u8>> {
        ("[A-Za-z123]", vec(any::<u8>(), 0..60)).prop_map(|(kind, body)| {
            let mut message = kind.into_bytes();
            message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
            message.extend_from_slice(&body);
            message
        })
    }

    proptest! {
        #[test]
        fn redis_messages_do_not_depend_on_how_the_bytes_are_chunked(
            messages in vec(redis_message(), 1..8),
            chunks in vec(1_usize..9, 0..400),
        ) {
            let cut = cut(Wire::Redis, Direction::Down, &messages.concat(), &chunks);
            prop_assert_eq!(cut, (messages, Vec::new()));
        }

        #[test]
        fn postgres_messages_do_not_depend_on_how_the_bytes_are_chunked(
            messages in vec(postgres_message(), 1..8),
            asks_for_tls in any::<bool>(),
            chunks in vec(1_usize..9, 0..400),
        ) {
            let mut stream = Vec::new();
            if asks_for_tls {
                stream.push([8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat());
            }
            stream.push([12_u32.to_be_bytes(), 0x0003_0000_u32.to_be_bytes(), [0; 4]].concat());
            stream.extend(messages);
            let cut = cut(Wire::Postgres, Direction::Up, &stream.concat(), &chunks);
            prop_assert_eq!(cut, (stream, Vec::new()));
        }

        #[test]
        fn a_refusal_of_tls_is_a_message_of_one_byte(
            messages in vec(postgres_message(), 1..8),
            chunks in vec(1_usize..9, 0..400),
        ) {
            let authentication = [&b"R"[..], &8_u32.to_be_bytes(), &[0; 4]].concat();
            let stream: Vec<_> = [b"N".to_vec(), authentication].into_iter().chain(messages).collect();
            let cut = cut(Wire::Postgres, Direction::Down, &stream.concat(), &chunks);
            prop_assert_eq!(cut, (stream, Vec::new()));
        }

        #[test]
        fn no_byte_of_garbage_is_lost(
            bytes in vec(prop_oneof![any::<u8>(), Just(b'*'), Just(b'9'), Just(b'\r'), Just(b'\n')], 0..300),
            chunks in vec(1_usize..9, 0..100),
        ) {
            for wire in [Wire::Plain, Wire::Redis, Wire::Postgres] {
                for direction in [Direction::Up, Direction::Down] {
                    let (messages, rest) = cut(wire, direction, &bytes, &chunks);
                    prop_assert_eq!([messages.concat(), rest].concat(), bytes.clone());
                }
            }
        }
    }
}
