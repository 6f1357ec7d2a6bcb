//! Receives and decodes the bodies of requests, within the server's limits.

use std::sync::Arc;

use bytes::Bytes;

use crate::body::{Budget, Reservation, SenderBytes, Upload};
use crate::config::Limits;
use crate::encoding::{self, DecodeError, Encoding};
use crate::error::Problem;
use crate::offload::{INLINE_BYTES_MAX, Offload};
use crate::pace::PaceLimits;
use crate::project::Project;

/// Reads and decodes the bodies of one server.
#[derive(Debug)]
pub struct BodyReader {
    limits: Limits,
    budget: Arc<Budget>,
    /// Of all bodies whose sender is not known when they are read.
    unknown_sender: SenderBytes,
    /// Where work on large bodies runs.
    pub offload: Offload,
}

/// A body that has been read.
pub struct RequestBody {
    /// As it was sent, for signatures.
    pub raw: Bytes,
    pub decoded: Bytes,
    /// The memory of both. Held until the batch is in the stream.
    pub reservation: Reservation,
}

impl BodyReader {
    pub fn new(limits: Limits) -> Self {
        let budget = Budget::new(limits.bodies_in_flight_bytes_max, limits.request_bytes_max());
        Self { limits, budget, unknown_sender: SenderBytes::default(), offload: Offload::new() }
    }

    /// Reads and decodes a body of at most `bytes_max` bytes as sent, which is the limit of its route.
    /// `sender` is the project, if its key is known.
    ///
    /// # Errors
    /// Those of [`Upload::receive`] and [`encoding::decode`].
    pub async fn read(
        &self,
        upload: Upload,
        encoding: Encoding,
        bytes_max: usize,
        sender: Option<&Project>,
    ) -> Result<RequestBody, Problem> {
        let sender = sender.map_or(&self.unknown_sender, |project| &project.body_bytes);
        let mut reservation = self.budget.open(sender);
        let pace = PaceLimits { idle: self.limits.body_timeout, total: self.limits.body_time_max };
        let raw = upload.receive(&mut reservation, bytes_max, pace).await?;
        let decoded = self.decode(encoding, &raw).await?;
        if encoding != Encoding::Identity {
            reservation.grow(decoded.len())?;
        }
        Ok(RequestBody { raw, decoded, reservation })
    }

    async fn decode(&self, encoding: Encoding, raw: &Bytes) -> Result<Bytes, DecodeError> {
        let bytes_max = self.limits.body_decoded_bytes_max;
        let inline_max =
            if encoding == Encoding::Identity { bytes_max } else { INLINE_BYTES_MAX.min(bytes_max) };
        // Only decoding shows how large the result is: begin in this task, and start over on a thread when it
        // is large.
        match encoding::decode(encoding, raw, inline_max) {
            Err(DecodeError::TooLarge { max }) if max < bytes_max => {
                let raw = raw.clone();
                self.offload.run_on_thread(move || encoding::decode(encoding, &raw, bytes_max)).await
            }
            decoded => decoded,
        }
    }
}
