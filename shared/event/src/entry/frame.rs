//! Compression of rows. Rows are compressed in zstd frames, and frames can follow each other: decompressing
//! them gives the rows of all of them.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;

use super::bounds::ROWS_BYTES_MAX;

/// The first of the fast levels, which do not compress literals. Packing and unpacking takes a fifth of the
/// time of level 1 for one event (1.4 µs instead of 6.3), and two thirds for 200 events.
const FAST_LEVEL: i32 = -1;
/// For rows of many batches: a seventh smaller (58 instead of 68 bytes for an event of the benchmark), in a
/// third more time.
const SHARED_LEVEL: i32 = 1;
/// Fewer rows do not repay the tables of [`SHARED_LEVEL`].
const SHARED_BYTES_MIN: usize = 16 << 10;

thread_local! {
    static FAST: RefCell<zstd::bulk::Compressor<'static>> = RefCell::new(new_compressor(FAST_LEVEL));
    static SHARED: RefCell<zstd::bulk::Compressor<'static>> = RefCell::new(new_compressor(SHARED_LEVEL));
    // Creating a decompressor costs more than unpacking a small batch.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("memory for a decompressor"));
}

fn new_compressor(level: i32) -> zstd::bulk::Compressor<'static> {
    let mut compressor = zstd::bulk::Compressor::new(level).expect("the level exists");
    compressor.include_checksum(true).expect("checksums are supported");
    compressor
}

/// Compresses the rows of one batch into one frame.
pub fn pack_rows(rows: &[u8]) -> Bytes {
    FAST.with_borrow_mut(|zstd| zstd.compress(rows)).expect("memory can be compressed").into()
}

/// Compresses the rows of several batches into one frame.
pub(super) fn pack_shared(rows: &[u8]) -> Bytes {
    let compressor = if rows.len() < SHARED_BYTES_MIN { &FAST } else { &SHARED };
    compressor.with_borrow_mut(|zstd| zstd.compress(rows)).expect("memory can be compressed").into()
}

/// Decompresses all frames, which must have exactly this many bytes of rows.
pub(super) fn decompress(frames: &[u8], rows_bytes: usize) -> Result<Bytes, String> {
    if rows_bytes > ROWS_BYTES_MAX {
        return Err(format!("{rows_bytes} bytes of rows are over the limit of {ROWS_BYTES_MAX}"));
    }
    let rows = DECOMPRESSOR
        .with_borrow_mut(|zstd| zstd.decompress(frames, rows_bytes))
        .map_err(|error| format!("the rows do not decompress: {error}"))?;
    if rows.len() != rows_bytes {
        return Err(format!("found {} bytes of rows, expected {rows_bytes}", rows.len()));
    }
    Ok(rows.into())
}

/// Decompresses all frames, when the size of their rows is not known.
pub(super) fn decompress_unknown_size(frames: &[u8]) -> Result<Vec<u8>, String> {
    let mut rows = Vec::new();
    zstd::stream::read::Decoder::new(frames)
        .and_then(|decoder| decoder.take(ROWS_BYTES_MAX as u64 + 1).read_to_end(&mut rows))
        .map_err(|error| format!("the rows do not decompress: {error}"))?;
    if rows.len() > ROWS_BYTES_MAX {
        return Err(format!("the rows are over the limit of {ROWS_BYTES_MAX} bytes"));
    }
    Ok(rows)
}
