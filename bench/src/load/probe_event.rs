//! Single events that the freshness probe posts and then looks for in the table.

use uuid::Uuid;

use super::clock::{TIME_BYTES, TimeWriter, now_us};
use super::identity::IdGenerator;
use super::request::{ID, TIME};
use super::spec::Target;

#[derive(Clone, Debug)]
pub struct ProbeEvent {
    /// A batch that contains only this event.
    pub body: String,
    pub id: Uuid,
    /// The event's time as it is in `body`.
    pub time: String,
    /// The same time in microseconds since 1970.
    pub time_us: i64,
}

impl ProbeEvent {
    pub fn new(target: &Target, ids: &mut IdGenerator) -> Self {
        let (id, time_us) = (Uuid::from_u128(ids.next_id()), now_us() - target.days_ago_us());
        let mut text = [0; TIME_BYTES];
        TimeWriter::new().write(time_us, &mut text);
        let time = String::from_utf8_lossy(&text).into_owned();
        let body = format!(
            "{{\"events\":[{{{ID}{id}\",\"name\":\"probe\",{TIME}{time}\",\"subject\":\"probe\"}}]}}"
        );
        Self { body, id, time, time_us }
    }
}
