//! The error of a call to the stream.

/// Why a call failed. The name of the variant in snake case is the label `kind` of the error metric.
#[derive(Clone, Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum StreamError {
    /// There is no connection, or the circuit breaker is open. Nothing was sent.
    #[error("the stream is unavailable: {0}")]
    Unavailable(String),
    /// The call was sent, but no answer came: it may have taken effect.
    #[error("the stream did not answer in time; the outcome is unknown: {0}")]
    Unknown(String),
    /// The stream's disk or memory is full. Nothing was written.
    #[error("the stream does not accept writes: {0}")]
    Full(String),
    /// The server is a replica, or the disk is read-only: this is not the server to write to. Nothing was
    /// written, and the connection was given up, because the address may lead to another server now.
    #[error("the stream is read-only: {0}")]
    ReadOnly(String),
    /// The stream's epoch is not the trusted one. Nothing was changed.
    #[error("the stream's epoch has changed")]
    EpochChanged,
    /// The call or the answer was invalid: a bug, or a server that is set up wrong.
    #[error("the stream refused: {0}")]
    Refused(String),
}

impl StreamError {
    /// The reason alone, for a text that already says what failed.
    pub fn reason(&self) -> String {
        match self {
            Self::Unavailable(reason)
            | Self::Unknown(reason)
            | Self::Full(reason)
            | Self::ReadOnly(reason)
            | Self::Refused(reason) => reason.clone(),
            Self::EpochChanged => self.to_string(),
        }
    }

    pub(crate) fn reason_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Unavailable(reason)
            | Self::Unknown(reason)
            | Self::Full(reason)
            | Self::ReadOnly(reason)
            | Self::Refused(reason) => Some(reason),
            Self::EpochChanged => None,
        }
    }
}
