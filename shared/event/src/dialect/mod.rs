//! Wire formats: from a request body to a batch of rows.
//!
//! Each format is one file with one or more [`Dialect`]s. To add a format, add its file and a `pub mod` line
//! here, and serve it from a row of the API's route table. Nothing else in this crate changes.
//!
//! One invalid event does not affect the other events of its batch. The dialect decides whether it is
//! rejected by its index, or accepted as a dead letter ([`InvalidEvents`]). The rest is stored.

mod address;
mod base64_members;
mod body;
mod bounds;
mod builder;
mod call;
mod definition;
mod event_texts;
mod sink;
mod tolerant;
mod validator;

pub mod amplitude;
pub mod cloudevents;
pub mod lago;
pub mod mixpanel;
pub mod native;
pub mod otlp;
pub mod posthog;
pub mod segment;
pub mod snowplow;

pub use body::read;
pub use bounds::Bounds;
pub use builder::EventBuilder;
pub use definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, Member, RawEvent};
pub use sink::{BodyError, EventSink};
pub use validator::{Validator, without_nul};
