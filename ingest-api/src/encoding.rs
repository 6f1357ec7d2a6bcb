//! Decodes a body, in bounded memory, even if the body declares a false size. Pure: no I/O.

use std::cell::RefCell;
use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, ResetDirective};

/// The largest zstd window that is decoded, as a power of two: the 8 MiB that RFC 9659 allows for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Output grows by this many bytes at a time, so that memory follows the real size.
const STEP_BYTES: usize = 64 << 10;

/// A content encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 alone: HTTP means the first by `deflate`, and many clients send the second.
    Deflate,
    /// RFC 8878.
    Zstd,
}

/// Why a body cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the body is larger than {max} bytes after decompression; send smaller batches")]
    TooLarge { max: usize },
    /// Not gzip, truncated, damaged, or followed by other bytes.
    #[error("the body is not complete and valid gzip; check Content-Encoding")]
    Gzip,
    /// Neither form of deflate, truncated, damaged, followed by other bytes, or with a dictionary.
    #[error(
        "the body is not complete and valid deflate, with or without a zlib header; check Content-Encoding"
    )]
    Deflate,
    /// Not zstd, truncated, damaged, followed by other bytes, or with too large a window.
    #[error("the body is not complete and valid zstd with a window of at most 8 MiB; check Content-Encoding")]
    Zstd,
}

thread_local! {
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(new_zstd_context());
}

fn new_zstd_context() -> DCtx<'static> {
    let mut context = DCtx::create();
    context
        .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
        .expect("the limit is in the range of zstd");
    context
}

/// Decodes a body to at most `bytes_max` bytes. Several gzip members or zstd frames in a row are one body, as
/// their specifications say. Any other bytes after the end are an error.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(encoding: Encoding, body: &Bytes, bytes_max: usize) -> Result<Bytes, DecodeError> {
    let decoded = match encoding {
        Encoding::Identity if body.len() > bytes_max => return Err(DecodeError::TooLarge { max: bytes_max }),
        Encoding::Identity => return Ok(body.clone()),
        Encoding::Gzip => read_bounded(MultiGzDecoder::new(&body[..]), body.len(), bytes_max)
            .map_err(|_| DecodeError::Gzip)?,
        Encoding::Deflate => {
            read_bounded(Inflate::new(body), body.len(), bytes_max).map_err(|_| DecodeError::Deflate)?
        }
        Encoding::Zstd => ZSTD.with_borrow_mut(|context| {
            // A context that failed in the middle of a frame would continue there.
            context.reset(ResetDirective::SessionOnly).map_err(|_| DecodeError::Zstd)?;
            let decoder = zstd::Decoder::with_context(&body[..], context);
            read_bounded(decoder, body.len(), bytes_max).map_err(|_| DecodeError::Zstd)
        })?,
    };
    decoded.map(Bytes::from).ok_or(DecodeError::TooLarge { max: bytes_max })
}

/// Reads one deflate stream. flate2's own readers take a truncated stream for a complete one, and ignore
/// bytes after its end.
struct Inflate<'a> {
    decompress: Decompress,
    left: &'a [u8],
    ended: bool,
}

impl<'a> Inflate<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { decompress: Decompress::new(has_zlib_header(body)), left: body, ended: false }
    }
}

impl Read for Inflate<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let (read_before, written_before) = (self.decompress.total_in(), self.decompress.total_out());
        let status = self.decompress.decompress(self.left, buffer, FlushDecompress::None)?;
        let read = self.decompress.total_in() - read_before;
        let written = self.decompress.total_out() - written_before;
        self.left = &self.left[usize::try_from(read).map_err(io::Error::other)?..];
        self.ended = status == Status::StreamEnd;
        if self.ended && !self.left.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the end of the stream"));
        }
        if !self.ended && written == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        usize::try_from(written).map_err(io::Error::other)
    }
}

/// Whether a deflate body begins with the two bytes of RFC 1950: the method 8, a window of at most 32 KiB,
/// and a check. Raw deflate never does: as its first byte, these bits are a stored block with padding that is
/// not zero, which no compressor writes.
fn has_zlib_header(body: &[u8]) -> bool {
    let [method, flags, ..] = *body else { return false };
    method & 0x0f == 8 && method >> 4 <= 7 && u16::from_be_bytes([method, flags]) % 31 == 0
}

/// Reads to the end; `None` when there is more than `bytes_max`.
fn read_bounded(
    mut reader: impl Read,
    encoded_bytes: usize,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut decoded = Vec::with_capacity((encoded_bytes.saturating_mul(4)).clamp(1_024, STEP_BYTES));
    loop {
        let room = bytes_max.saturating_add(1) - decoded.len();
        let read = reader.by_ref().take(room.min(STEP_BYTES) as u64).read_to_end(&mut decoded)?;
        if decoded.len() > bytes_max {
            return Ok(None);
        }
        if read == 0 {
            return Ok(Some(decoded));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const MAX: usize = 1 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn decoded(encoding: Encoding, body: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
        decode(encoding, &body.into(), MAX).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn an_encoded_body_decodes_to_the_original() {
        let body: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(decoded(Encoding::Identity, body.clone()), Ok(body.clone()));
        assert_eq!(decoded(Encoding::Gzip, gzip(&body)), Ok(body.clone()));
        assert_eq!(decoded(Encoding::Deflate, zlib(&body)), Ok(body.clone()));
        assert_eq!(decoded(Encoding::Zstd, zstd(&body)), Ok(body));
    }

    #[test]
    fn deflate_is_decoded_with_and_without_a_zlib_header_at_every_level_and_window() {
        for body in [&b""[..], b"{}", &b"the same sentence, ".repeat(50_000), &[b' '; 4 << 10]] {
            for level in 0..=9 {
                assert_eq!(
                    decoded(Encoding::Deflate, raw_deflate(body, level)),
                    Ok(body.to_vec()),
                    "{level}"
                );
                let mut encoder =
                    flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(body).unwrap();
                assert_eq!(
                    decoded(Encoding::Deflate, encoder.finish().unwrap()),
                    Ok(body.to_vec()),
                    "{level}"
                );
            }
        }
        // A window of 512 bytes, as an encoder with little memory declares it.
        let mut small = zlib(b"a small window");
        small[..2].copy_from_slice(&[0x18, 0x19]);
        assert_eq!(decoded(Encoding::Deflate, small), Ok(b"a small window".to_vec()));
    }

    #[test]
    fn deflate_with_a_dictionary_or_a_wrong_checksum_is_refused() {
        let whole = zlib(b"the same sentence");
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(decoded(Encoding::Deflate, damaged), Err(DecodeError::Deflate));
        // 0x20 in the second byte says that a dictionary follows; 0x78 0x20 has a valid check.
        let dictionary = [&[0x78, 0x20, 0, 0, 0, 1], &whole[2..]].concat();
        assert!(has_zlib_header(&dictionary));
        assert_eq!(decoded(Encoding::Deflate, dictionary), Err(DecodeError::Deflate));
    }

    #[test]
    fn several_members_or_frames_are_one_body() {
        assert_eq!(decoded(Encoding::Gzip, [gzip(b"ab"), gzip(b"cd")].concat()), Ok(b"abcd".to_vec()));
        assert_eq!(decoded(Encoding::Zstd, [zstd(b"ab"), zstd(b"cd")].concat()), Ok(b"abcd".to_vec()));
    }

    #[test]
    fn a_body_that_is_truncated_or_followed_by_garbage_is_refused() {
        let text = b"the same sentence, the same sentence, the same sentence".repeat(100);
        for (encoding, whole, error) in [
            (Encoding::Gzip, gzip(&text), DecodeError::Gzip),
            (Encoding::Zstd, zstd(&text), DecodeError::Zstd),
            (Encoding::Deflate, zlib(&text), DecodeError::Deflate),
            (Encoding::Deflate, raw_deflate(&text, 6), DecodeError::Deflate),
        ] {
            for cut in [1, 5, whole.len() / 2, whole.len() - 1] {
                assert_eq!(decoded(encoding, whole[..cut].to_vec()), Err(error), "cut at {cut}");
            }
            assert_eq!(decoded(encoding, [&whole[..], b"garbage"].concat()), Err(error), "garbage");
            assert_eq!(decoded(encoding, b"{}".to_vec()), Err(error), "not encoded");
            // A failure does not affect the next body on the same thread.
            assert_eq!(decoded(encoding, whole), Ok(text.clone()));
        }
    }

    #[test]
    fn an_empty_body_is_in_no_encoding() {
        assert_eq!(decoded(Encoding::Identity, Vec::new()), Ok(Vec::new()));
        assert_eq!(decoded(Encoding::Gzip, Vec::new()), Err(DecodeError::Gzip));
        assert_eq!(decoded(Encoding::Zstd, Vec::new()), Err(DecodeError::Zstd));
        assert_eq!(decoded(Encoding::Deflate, Vec::new()), Err(DecodeError::Deflate));
    }

    #[test]
    fn decompression_stops_at_the_limit() {
        let zeroes = vec![0; 4 << 20];
        let too_large = Err(DecodeError::TooLarge { max: MAX });
        assert_eq!(decoded(Encoding::Gzip, gzip(&zeroes)), too_large);
        assert_eq!(decoded(Encoding::Zstd, zstd(&zeroes)), too_large);
        for bomb in [zlib(&zeroes), raw_deflate(&zeroes, 9)] {
            assert_eq!(decoded(Encoding::Deflate, bomb), too_large);
        }
        assert_eq!(decoded(Encoding::Deflate, zlib(&zeroes[..MAX])).map(|body| body.len()), Ok(MAX));
        assert_eq!(decoded(Encoding::Deflate, zlib(&zeroes[..=MAX])), too_large);
        assert_eq!(decoded(Encoding::Gzip, gzip(&zeroes[..MAX])).map(|body| body.len()), Ok(MAX));
        assert_eq!(decoded(Encoding::Gzip, gzip(&zeroes[..=MAX])), too_large);
        assert_eq!(decoded(Encoding::Identity, zeroes), too_large);
    }

    #[test]
    fn a_zstd_window_over_8_mib_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(24).unwrap();
        encoder.write_all(b"a small body with a window of 16 MiB").unwrap();
        assert_eq!(decoded(Encoding::Zstd, encoder.finish().unwrap()), Err(DecodeError::Zstd));
    }
}
