//! Decodes a body, in bounded memory, even if the body declares a false size. Pure: no I/O.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
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
        Encoding::Zstd => ZSTD.with_borrow_mut(|context| {
            // A context that failed in the middle of a frame would continue there.
            context.reset(ResetDirective::SessionOnly).map_err(|_| DecodeError::Zstd)?;
            let decoder = zstd::Decoder::with_context(&body[..], context);
            read_bounded(decoder, body.len(), bytes_max).map_err(|_| DecodeError::Zstd)
        })?,
    };
    decoded.map(Bytes::from).ok_or(DecodeError::TooLarge { max: bytes_max })
}

/// Reads to the end; `None` when there is more than `bytes_max`.
fn read_bounded(
    mut reader: impl Read,
    encoded_bytes: usize,
    bytes_max: usize,
) -> std::io::Result<Option<Vec<u8>>> {
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
        assert_eq!(decoded(Encoding::Zstd, zstd(&body)), Ok(body));
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
    fn an_empty_body_is_neither_gzip_nor_zstd() {
        assert_eq!(decoded(Encoding::Identity, Vec::new()), Ok(Vec::new()));
        assert_eq!(decoded(Encoding::Gzip, Vec::new()), Err(DecodeError::Gzip));
        assert_eq!(decoded(Encoding::Zstd, Vec::new()), Err(DecodeError::Zstd));
    }

    #[test]
    fn decompression_stops_at_the_limit() {
        let zeroes = vec![0; 4 << 20];
        let too_large = Err(DecodeError::TooLarge { max: MAX });
        assert_eq!(decoded(Encoding::Gzip, gzip(&zeroes)), too_large);
        assert_eq!(decoded(Encoding::Zstd, zstd(&zeroes)), too_large);
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
