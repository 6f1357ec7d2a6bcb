//! The bounds of event time that a project's policy sets, for every dialect.

use super::builder::EventBuilder;
use crate::event::{Origin, uuid_of_index};
use crate::policy::OutOfBounds;
use crate::row::EventTime;

/// What the policy says about the time of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bounds {
    Inside,
    /// The event now has its receive time. The dialect keeps the time that was sent in the context.
    TakesReceiveTime,
    /// The dialect refuses the event.
    Refused {
        message: String,
    },
}

impl EventBuilder<'_> {
    /// Applies the bounds to an event that was identified, by its timestamp or by the time in its id. `index`
    /// is its index in the batch. Every dialect calls this after [`EventBuilder::identify`].
    pub fn keep_in_bounds(&mut self, origin: Origin, index: usize) -> Bounds {
        match self.time {
            EventTime::At(us) if !origin.policy.allows(us, origin.received_us) => {
                self.leave_bounds(us, origin, index)
            }
            _ => Bounds::Inside,
        }
    }

    #[cold]
    fn leave_bounds(&mut self, us: i64, origin: Origin, index: usize) -> Bounds {
        if origin.policy.out_of_bounds == OutOfBounds::ReceiveTime {
            let has_own_id = self.event_id != uuid_of_index(origin.batch_id, index);
            self.time = if has_own_id { EventTime::Undated } else { EventTime::Anonymous };
            return Bounds::TakesReceiveTime;
        }
        let (bound, is) = match (us < origin.received_us, origin.policy.oldest_s, origin.policy.newest_s) {
            (true, Some(oldest), _) => (oldest, "before"),
            (_, _, newest) => (newest.unwrap_or_default(), "after"),
        };
        let message = format!(
            "the event's time must be at most {bound} seconds {is} its receipt, which is the project's bound"
        );
        Bounds::Refused { message }
    }
}
