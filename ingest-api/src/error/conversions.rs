//! Which problem answers each error of this crate, of the stream and of the store.

use std::borrow::Cow;

use millrace_event::dialect::BodyError;
use millrace_store::StoreError;
use millrace_stream::StreamError;

use super::{Detail, Problem};
use crate::access::ForbiddenError;
use crate::accounts::LookupError;
use crate::admin::FieldError;
use crate::audience::AccessError;
use crate::auth::CredentialsError;
use crate::body::ReceiveError;
use crate::cancel::CancelError;
use crate::encoding::DecodeError;
use crate::form::FormError;
use crate::framing::FramingError;
use crate::headers::HeaderError;
use crate::meters::QuestionError;
use crate::packing::PackingError;
use crate::parameters::ParameterError;
use crate::problem_code::ProblemCode;
use crate::signature::SignatureError;

impl From<CredentialsError> for Problem {
    fn from(error: CredentialsError) -> Self {
        Self::with_text(ProblemCode::Unauthenticated, error.to_string())
    }
}

impl From<LookupError> for Problem {
    fn from(error: LookupError) -> Self {
        let code = match error {
            LookupError::NotLoaded => ProblemCode::Overloaded,
            LookupError::UnknownKey => ProblemCode::Unauthenticated,
        };
        Self::with_text(code, error.to_string())
    }
}

impl From<ForbiddenError> for Problem {
    fn from(error: ForbiddenError) -> Self {
        Self::with_text(ProblemCode::Forbidden, error.to_string())
    }
}

impl From<FormError> for Problem {
    fn from(error: FormError) -> Self {
        Self::with_text(ProblemCode::InvalidJson, error.to_string())
    }
}

impl From<PackingError> for Problem {
    fn from(error: PackingError) -> Self {
        match error {
            PackingError::Form(error) => error.into(),
            PackingError::Gzip(error) => error.into(),
        }
    }
}

impl From<SignatureError> for Problem {
    fn from(error: SignatureError) -> Self {
        Self::with_text(ProblemCode::Unauthenticated, error.to_string())
    }
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        Self::with_text(error.code(), error.to_string())
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        Self::with_text(ProblemCode::NotFound, error.to_string())
    }
}

impl From<FramingError> for Problem {
    fn from(error: FramingError) -> Self {
        let message = Cow::Owned(error.to_string());
        Self { code: ProblemCode::InvalidHeader, message, detail: Detail::Framing(error.field()) }
    }
}

impl From<HeaderError> for Problem {
    fn from(error: HeaderError) -> Self {
        let message = Cow::Owned(error.to_string());
        let (code, detail) = match error {
            HeaderError::MediaType | HeaderError::Form | HeaderError::OtherJson | HeaderError::Charset => {
                (ProblemCode::UnsupportedMediaType, Detail::Nothing)
            }
            HeaderError::Encoding => (ProblemCode::UnsupportedEncoding, Detail::Nothing),
            HeaderError::Invalid { name, .. } => (ProblemCode::InvalidHeader, Detail::Field(name)),
        };
        Self { code, message, detail }
    }
}

impl From<ParameterError> for Problem {
    fn from(error: ParameterError) -> Self {
        let message = Cow::Owned(error.to_string());
        Self { code: ProblemCode::InvalidParameter, message, detail: Detail::Field(error.name()) }
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        let code = match error {
            FieldError::NotAnObject => ProblemCode::InvalidJson,
            _ => ProblemCode::InvalidField,
        };
        let detail = error.field().map_or(Detail::Nothing, Detail::Field);
        Self { detail, ..Self::with_text(code, error.to_string()) }
    }
}

impl From<QuestionError> for Problem {
    fn from(error: QuestionError) -> Self {
        let message = Cow::Owned(error.to_string());
        Self { code: ProblemCode::InvalidParameter, message, detail: Detail::Field(error.name()) }
    }
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Self {
        let code = match error {
            ReceiveError::TooLarge { .. } => ProblemCode::PayloadTooLarge,
            ReceiveError::TooSlow => ProblemCode::RequestTimeout,
            ReceiveError::Broken => ProblemCode::InvalidEncoding,
            ReceiveError::OverBudget => ProblemCode::Overloaded,
        };
        Self::with_text(code, error.to_string())
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let code = match error {
            DecodeError::TooLarge { .. } => ProblemCode::PayloadTooLarge,
            DecodeError::Gzip | DecodeError::Deflate | DecodeError::Zstd => ProblemCode::InvalidEncoding,
        };
        Self::with_text(code, error.to_string())
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::InvalidJson { message } => Self::with_text(ProblemCode::InvalidJson, message),
            BodyError::EmptyBatch => {
                let message = "the body has no event; send at least one, or send nothing";
                Self::new(ProblemCode::EmptyBatch, message)
            }
            BodyError::TooManyEvents { found, max } => Self::with_text(
                ProblemCode::TooManyEvents,
                format!("the batch has {found} events and the plan allows {max}; send smaller batches"),
            ),
            BodyError::RowsTooLarge { max } => Self::with_text(
                ProblemCode::PayloadTooLarge,
                format!(
                    "the events of the batch take more than {max} bytes, because each has a copy of the fields that \
                     they share; send smaller batches"
                ),
            ),
            BodyError::NoValidEvent { rejected } => Self {
                code: ProblemCode::NoValidEvent,
                message: Cow::Borrowed("no event of the batch is valid; rejected has the reason for each"),
                detail: Detail::Rejected(rejected),
            },
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::debug!(%error, "the store did not answer a report");
        Self::store_unavailable()
    }
}

impl From<&StreamError> for Problem {
    fn from(error: &StreamError) -> Self {
        match error {
            StreamError::Full(_) => Self::stream_full(),
            StreamError::ReadOnly(_) => {
                let message =
                    "the stream is read-only; nothing was accepted; send the same batch again later";
                Self::new(ProblemCode::StreamUnavailable, message)
            }
            StreamError::EpochChanged => Self::epoch_changed(),
            StreamError::Unavailable(_) | StreamError::Unknown(_) => {
                let message = "the stream cannot be reached; send the same batch again";
                Self::new(ProblemCode::StreamUnavailable, message)
            }
            StreamError::Refused(_) => {
                let message =
                    "the stream refused the call; the operator finds the reason in the server's log";
                Self::new(ProblemCode::StreamUnavailable, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_backlog_a_full_stream_and_a_read_only_stream_have_different_messages() {
        let message = |error: StreamError| Problem::from(&error);
        let full = message(StreamError::Full("OOM".to_owned()));
        let read_only = message(StreamError::ReadOnly("READONLY".to_owned()));
        let codes = [Problem::backlog_full().code, full.code, read_only.code];
        assert_eq!(
            codes,
            [ProblemCode::BacklogFull, ProblemCode::BacklogFull, ProblemCode::StreamUnavailable]
        );
        assert!(full.message.contains("memory or the disk of the stream is full"), "{full:?}");
        assert!(read_only.message.contains("read-only"), "{read_only:?}");
        for problem in [full, read_only] {
            assert!(!problem.message.contains("too many events"), "{problem:?}");
        }
    }
}
