//! PostgreSQL's binary COPY, used by the COPY ceiling and by the `copy_in_request` subject.

use std::io;

use bytes::Bytes;
use futures_util::SinkExt;
use millrace_event::row::COLUMNS;
use tokio_postgres::Client;

/// Signature, flags (none), length of the header extension (none). Source: PostgreSQL documentation, "COPY".
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A field count of -1 ends the data.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Returns the rows that `write` appends, between COPY's header and trailer. `bytes` is the expected size of
/// the rows.
///
/// # Errors
/// Those of `write`.
pub fn framed(bytes: usize, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<Bytes> {
    let mut data = Vec::with_capacity(HEADER.len() + bytes + TRAILER.len());
    data.extend_from_slice(HEADER);
    write(&mut data)?;
    data.extend_from_slice(&TRAILER);
    Ok(data.into())
}

/// Copies data made by [`framed`] into `table`, and returns the number of rows.
///
/// # Errors
/// When PostgreSQL rejects a row, or the connection fails.
pub async fn send(client: &Client, table: &str, data: Bytes) -> Result<u64, tokio_postgres::Error> {
    let statement = format!("COPY {table} ({COLUMNS}) FROM STDIN BINARY");
    let sink = client.copy_in(&statement).await?;
    futures_util::pin_mut!(sink);
    sink.send(data).await?;
    sink.finish().await
}
