//! What a pump has to do with one message.

use super::trap::Act;

/// How a pump handles one message.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct MessagePlan {
    /// Performed before the message is forwarded, and instead of forwarding it unless this is a pause.
    pub before: Option<Act>,
    /// Performed after the message was forwarded.
    pub after: Option<Act>,
    /// Whether the messages behind it wait until every outstanding reply has been delivered.
    pub waits: bool,
    /// For a request: the number of replies it will get. For a reply: the number of replies it is.
    pub replies: usize,
}
