//! Sends notifications as Standard Webhooks.
//!
//! An operator chooses the address, perhaps on behalf of a customer, and the request comes from inside the
//! installation. So this module must never connect to an address that is not public, unless its host is
//! allowed by name; never follow a redirect; never repeat what the answer says; and never wait or read
//! without a limit.

mod allowed_hosts;
mod message;
mod public_address;
mod retry;
mod send;

pub use allowed_hosts::{AllowedHosts, allowed_hosts};
pub use message::Message;
pub use public_address::is_public;
pub use retry::{ATTEMPTS_MAX, next_attempt};
pub use send::{ANSWER_TIMEOUT, Answer, SendError, Sender};
