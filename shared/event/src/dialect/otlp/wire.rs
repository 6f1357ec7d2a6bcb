//! The fields of a protobuf message, one by one, without copying them (source: the encoding of protobuf,
//! protobuf.dev/programming-guides/encoding). Groups, which OTLP does not have, are refused.

use std::borrow::Cow;

use prost::encoding::{WireType, decode_key, decode_varint};

/// Bytes that are no message, or a field with another type than its number has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// The value of one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed) }
    }

    /// A string. Bytes that are not UTF-8 become U+FFFD.
    pub(super) fn text(self) -> Result<Cow<'a, str>, Malformed> {
        let bytes = self.bytes()?;
        Ok(std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
    }

    pub(super) fn varint(self) -> Result<u64, Malformed> {
        if let Self::Varint(number) = self { Ok(number) } else { Err(Malformed) }
    }

    pub(super) fn fixed64(self) -> Result<u64, Malformed> {
        if let Self::Fixed64(number) = self { Ok(number) } else { Err(Malformed) }
    }

    pub(super) fn fixed32(self) -> Result<u32, Malformed> {
        if let Self::Fixed32(number) = self { Ok(number) } else { Err(Malformed) }
    }
}

/// The fields of a message with their numbers, in the order of the bytes. Ends after the first error.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn read(&mut self) -> Result<(u32, Field<'a>), Malformed> {
        let (number, kind) = self.key()?;
        let value = match kind {
            WireType::Varint => Field::Varint(self.varint()?),
            WireType::SixtyFourBit => {
                Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?))
            }
            WireType::ThirtyTwoBit => {
                Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Field::Bytes(self.take(length)?)
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
        };
        Ok((number, value))
    }

    /// The number and the type of the next field. The first 15 numbers take one byte: most of what is sent.
    #[inline]
    fn key(&mut self) -> Result<(u32, WireType), Malformed> {
        if let [byte @ 8..0x80, rest @ ..] = self.0 {
            let kind = WireType::try_from(u64::from(byte & 7)).map_err(|_| Malformed)?;
            self.0 = rest;
            return Ok((u32::from(byte >> 3), kind));
        }
        decode_key(&mut self.0).map_err(|_| Malformed)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.0 {
            [byte @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            // Most records and many texts are as long as this.
            [low @ 0x80..=0xff, high @ 1..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => decode_varint(&mut self.0).map_err(|_| Malformed),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The fields 1 and 2 of a message that has these two, in this order, as bytes of which one byte tells the
/// length: what exporters send for nearly every attribute. `None` for any other message, also a malformed
/// one.
#[inline]
pub(super) fn short_pair(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, length @ 0..0x80, rest @ ..] = message else { return None };
    let (first, rest) = rest.split_at_checked(usize::from(*length))?;
    let [0x12, length @ 0..0x80, second @ ..] = rest else { return None };
    (second.len() == usize::from(*length)).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &[u8]) -> Vec<Result<(u32, Field<'_>), Malformed>> {
        Fields::of(message).collect()
    }

    #[test]
    fn a_field_of_each_type_is_read_and_borrows_its_bytes() {
        assert_eq!(
            fields(b"\x08\x96\x01\x12\x02ab\x19\x01\x00\x00\x00\x00\x00\x00\x00\x25\x02\x00\x00\x00"),
            [
                Ok((1, Field::Varint(150))),
                Ok((2, Field::Bytes(b"ab"))),
                Ok((3, Field::Fixed64(1))),
                Ok((4, Field::Fixed32(2)))
            ]
        );
        assert_eq!(Field::Bytes(b"a\xff").text(), Ok("a\u{fffd}".into()));
    }

    #[test]
    fn a_message_that_is_cut_off_or_has_an_unknown_type_ends_with_an_error() {
        for message in [
            &b"\x08"[..],
            b"\x08\xff",
            b"\x12\x05ab",
            b"\x19\x01",
            b"\x25",
            b"\x0b",
            b"\x0c",
            b"\x07",
            b"\x00\x00",
        ] {
            assert_eq!(fields(message).pop(), Some(Err(Malformed)), "{message:?}");
        }
        let endless = [&b"\x12"[..], &[0xff; 9], b"\x01"].concat();
        assert_eq!(fields(&endless), [Err(Malformed)], "a length beyond the memory of any machine");
    }

    #[test]
    fn a_short_pair_is_read_as_its_fields_are() {
        let long = [&b"\x0a\x01a\x12\x80\x01"[..], &[b'b'; 128]].concat();
        assert_eq!(short_pair(b"\x0a\x01a\x12\x02bc"), Some((&b"a"[..], &b"bc"[..])));
        assert_eq!(short_pair(b"\x0a\x00\x12\x00"), Some((&b""[..], &b""[..])));
        for other in
            [&long[..], b"", b"\x0a\x01a", b"\x12\x01b\x0a\x01a", b"\x0a\x02a", b"\x0a\x01a\x12\x02b"]
        {
            assert_eq!(short_pair(other), None, "{other:?}");
        }
        assert_eq!(short_pair(b"\x0a\x01a\x12\x01b\x12\x01c"), None, "the last of equal fields counts");
    }
}
