//! Requests that are written once, and renewed by writing new ids and times over the old ones.

use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use uuid::Uuid;

use super::clock::{TIME_BYTES, TimeWriter, now_us};
use super::identity::{ID_BYTES, Identities, Identity, write_id};
use super::{Shape, Target};

/// What visitors of a shop do, in the order in which they do it.
const FUNNEL: [&str; 5] = ["page_view", "product_viewed", "add_to_cart", "checkout", "purchase"];
/// How many of those who reached a step go on to the next.
const GOES_ON: f64 = 0.6;
/// Events of which all requests of a thread are made: enough that no two batches in a row are alike.
const DISTINCT_EVENTS: usize = 2_000;
/// Times are spread over the moment in which a client collects a batch.
const SPREAD_US: i64 = 250_000;
/// What an event's id and its time stand behind.
const ID: &str = "\"id\":\"";
const TIME: &str = "\"timestamp\":\"";
/// Every run sends the same events, but for ids and times.
const SEED: u64 = 7;

/// A whole request, head and body, and where in it the events' ids and times stand.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    events: Vec<Places>,
}

#[derive(Clone, Copy, Debug)]
struct Places {
    id_at: usize,
    time_at: usize,
}

/// Writes the templates of one thread.
pub fn templates(target: &Target, shape: &Shape) -> Vec<Template> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut templates = Vec::new();
    let mut events = 0;
    while events < DISTINCT_EVENTS || templates.len() < 2 {
        let batch = random.random_range(RangeInclusive::clone(&shape.events));
        templates.push(Template::new(target, batch, &mut random));
        events += batch;
    }
    templates
}

impl Template {
    fn new(target: &Target, events: usize, random: &mut StdRng) -> Self {
        let body = batch_json(events, random);
        let ids = body.match_indices(ID).map(|(at, _)| at + ID.len());
        let times = body.match_indices(TIME).map(|(at, _)| at + TIME.len());
        let mut places: Vec<_> = ids.zip(times).map(|(id_at, time_at)| Places { id_at, time_at }).collect();
        let mut bytes = format!(
            "POST /v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            target.address,
            target.key,
            body.len()
        )
        .into_bytes();
        for place in &mut places {
            place.id_at += bytes.len();
            place.time_at += bytes.len();
        }
        bytes.extend_from_slice(body.as_bytes());
        Self { bytes, events: places }
    }

    /// Events in it.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Writes the request with these identities into `out`, instead of what was there.
    pub fn render(&self, identities: &[Identity], times: &mut TimeWriter, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for (place, identity) in self.events.iter().zip(identities) {
            write_id(identity.id, &mut out[place.id_at..place.id_at + ID_BYTES]);
            times.write(identity.time_us, &mut out[place.time_at..place.time_at + TIME_BYTES]);
        }
    }
}

/// When the event at this place of a batch of so many has happened, for a batch that is sent now.
pub fn happened_us(sent_us: i64, place: usize, events: usize) -> i64 {
    let to_come = i64::try_from(events - place).expect("a batch is small");
    let step = SPREAD_US / i64::try_from(events).expect("a batch is small");
    sent_us - to_come * step
}

/// A batch of so many events, without identity: its ids and times are to be written over.
pub fn batch_json(events: usize, random: &mut StdRng) -> String {
    let events: Vec<_> = (0..events).map(|_| event_json(random)).collect();
    format!("{{\"events\":[{}]}}", events.join(","))
}

/// An event of a shop's visitor, about 350 bytes.
fn event_json(random: &mut StdRng) -> String {
    let mut step = 0;
    while step + 1 < FUNNEL.len() && random.random_bool(GOES_ON) {
        step += 1;
    }
    let name = FUNNEL[step];
    let visitor = random.random_range(0..100_000);
    let (product, cents) = (random.random_range(0..5_000), random.random_range(100..20_000));
    let price = f64::from(cents) / 100.0;
    let session: u64 = random.random();
    let referrer = ["search", "mail", "direct", "partner"][random.random_range(0..4)];
    format!(
        "{{{ID}00000000-0000-4000-8000-000000000000\",\"name\":\"{name}\",\
         {TIME}1970-01-01T00:00:00.000000Z\",\"subject\":\"visitor-{visitor}\",\
         \"properties\":{{\"product\":\"sku-{product}\",\"price\":{price:.2},\"currency\":\"EUR\",\"quantity\":1,\
         \"referrer\":\"{referrer}\",\"position\":{position}}},\
         \"context\":{{\"page\":{{\"path\":\"/products/{product}\"}},\"locale\":\"de-DE\",\"session\":\"{session:016x}\"}}}}",
        position = random.random_range(1..40),
    )
}

/// One event that is looked for afterwards.
#[derive(Clone, Debug)]
pub struct Marked {
    /// A batch of it alone.
    pub body: String,
    /// Its id.
    pub id: Uuid,
    /// Its time as it was sent.
    pub time: String,
    /// The same, in microseconds since 1970.
    pub time_us: i64,
}

impl Marked {
    /// A new one, for this target.
    pub fn new(target: &Target, ids: &mut Identities) -> Self {
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_rendered_request_carries_the_identities_it_was_given() {
        let target = Target { address: ([127, 0, 0, 1], 80).into(), key: "a-key".to_owned(), days_ago: 0 };
        let shape = Shape { events: 5..=15, duplicates: 0.0 };
        let (mut times, mut out) = (TimeWriter::new(), Vec::new());
        for template in templates(&target, &shape) {
            let identity = |place| Identity { id: 1 << 100 | place as u128, time_us: 1_795_687_840_123_456 };
            let identities: Vec<_> = (0..template.events()).map(identity).collect();
            template.render(&identities, &mut times, &mut out);
            let text = std::str::from_utf8(&out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
            let body: Value = serde_json::from_str(body).unwrap();
            let events = body["events"].as_array().unwrap();
            assert!((5..=15).contains(&events.len()));
            for (event, identity) in events.iter().zip(&identities) {
                assert_eq!(event["id"], uuid::Uuid::from_u128(identity.id).to_string());
                assert_eq!(event["timestamp"], "2026-11-26T10:10:40.123456Z");
            }
        }
    }
}
