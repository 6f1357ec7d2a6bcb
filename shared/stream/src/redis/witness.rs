//! Reads where a shard stands, for those who decide whether it went back in time. It must never decide.

use super::core::Core;
use super::keys::ShardKeys;
use super::link::Link;
use super::marker::{self, markers_command};
use super::shard_witness::{CHUNK_MARKERS, parse_position, position_command};
use crate::{AcknowledgedBatch, StreamError, Witness};

/// Reads where the shard stands, and looks up the remembered batches if the server or the epoch has changed.
pub(super) async fn witness(core: &Core, shard: u16) -> Result<Witness, StreamError> {
    let keys = core.keys(shard)?;
    let Some(known) = core.witnesses.shard(shard) else { return Ok(Witness::default()) };
    let search = known.begin_witness();
    let acknowledged = known.acknowledged.last();
    let (epoch, last) = parse_position(core.link(shard).ask(&position_command(keys)).await?)?;
    let trusted = known.trusted_last();
    // A server that was wiped has another epoch and is the same run. If another process has rebuilt the
    // counters already, what this one acknowledged may be lost nevertheless.
    let missing = match search || last < acknowledged || epoch != trusted {
        true => missing_markers(core.link(shard), keys, &known.acknowledged.recent()).await?,
        false => Vec::new(),
    };
    known.end_witness(&missing);
    Ok(Witness { epoch, last, acknowledged, trusted, missing })
}

/// Those of these batches that have no marker.
async fn missing_markers(
    link: &Link,
    keys: &ShardKeys,
    batches: &[AcknowledgedBatch],
) -> Result<Vec<AcknowledgedBatch>, StreamError> {
    let mut missing = Vec::new();
    for chunk in batches.chunks(CHUNK_MARKERS) {
        let answer = link.ask(&markers_command(keys, chunk)).await?;
        missing.extend(marker::missing_markers(answer, chunk)?);
    }
    Ok(missing)
}
