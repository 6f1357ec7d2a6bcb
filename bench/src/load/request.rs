//! Request templates: each request is written once, and sent again with new ids and times in place of the old
//! ones.

use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::clock::{TIME_BYTES, TimeWriter};
use super::identity::{ID_BYTES, Identity, write_id};
use super::spec::{Shape, Target};

/// The steps of a shop's visitors, in order.
const FUNNEL: [&str; 5] = ["page_view", "product_viewed", "add_to_cart", "checkout", "purchase"];
/// Share of the visitors at one step who take the next.
const CONTINUES: f64 = 0.6;
/// The times of a batch's events span this much, as if a client had collected them.
const SPREAD_US: i64 = 250_000;
/// The text before an event's id, and before its time.
pub(super) const ID: &str = "\"id\":\"";
pub(super) const TIME: &str = "\"timestamp\":\"";
/// Constant, so that every run sends the same events except for ids and times.
const SEED: u64 = 7;

/// A whole request, and the offsets of its events' ids and times.
#[derive(Debug)]
pub struct RequestTemplate {
    bytes: Vec<u8>,
    events: Vec<EventOffsets>,
}

#[derive(Clone, Copy, Debug)]
struct EventOffsets {
    id_at: usize,
    time_at: usize,
}

/// Creates the templates that one thread sends in turn. Those of the projects alternate.
pub fn templates(target: &Target, shape: &Shape) -> Vec<RequestTemplate> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut templates = Vec::new();
    let mut events = 0;
    while events < shape.distinct || templates.len() < target.keys.len().max(2) {
        let batch = random.random_range(RangeInclusive::clone(&shape.events));
        let key = &target.keys[templates.len() % target.keys.len()];
        templates.push(RequestTemplate::new(target, key, batch, &mut random));
        events += batch;
    }
    templates
}

impl RequestTemplate {
    fn new(target: &Target, key: &str, events: usize, random: &mut StdRng) -> Self {
        let body = batch_json(events, random);
        let ids = body.match_indices(ID).map(|(at, _)| at + ID.len());
        let times = body.match_indices(TIME).map(|(at, _)| at + TIME.len());
        let mut events: Vec<_> =
            ids.zip(times).map(|(id_at, time_at)| EventOffsets { id_at, time_at }).collect();
        let mut bytes = format!(
            "POST /v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            target.address,
            body.len()
        )
        .into_bytes();
        for event in &mut events {
            event.id_at += bytes.len();
            event.time_at += bytes.len();
        }
        bytes.extend_from_slice(body.as_bytes());
        Self { bytes, events }
    }

    /// Events per request.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Writes the request with these identities into `out`, and replaces its previous content.
    pub fn render(&self, identities: &[Identity], times: &mut TimeWriter, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for (event, identity) in self.events.iter().zip(identities) {
            write_id(identity.id, &mut out[event.id_at..event.id_at + ID_BYTES]);
            times.write(identity.time_us, &mut out[event.time_at..event.time_at + TIME_BYTES]);
        }
    }
}

/// The time of the event at `index` in a batch of `events` that is sent at `sent_us`.
pub fn event_time_us(sent_us: i64, index: usize, events: usize) -> i64 {
    let remaining = i64::try_from(events - index).expect("a batch is small");
    let step = SPREAD_US / i64::try_from(events).expect("a batch is small");
    sent_us - remaining * step
}

/// The JSON of a batch. All its ids and times are placeholders.
pub fn batch_json(events: usize, random: &mut StdRng) -> String {
    let events: Vec<_> = (0..events).map(|_| event_json(random)).collect();
    format!("{{\"events\":[{}]}}", events.join(","))
}

/// An event of a shop's visitor, about 350 bytes.
fn event_json(random: &mut StdRng) -> String {
    let mut step = 0;
    while step + 1 < FUNNEL.len() && random.random_bool(CONTINUES) {
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_rendered_request_has_the_given_ids_and_times() {
        let target = Target::new(([127, 0, 0, 1], 80).into(), "a-key");
        let shape = Shape::new(5..=15);
        let (mut times, mut out) = (TimeWriter::new(), Vec::new());
        for template in templates(&target, &shape) {
            let identity = |index| Identity { id: 1 << 100 | index as u128, time_us: 1_795_687_840_123_456 };
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

    #[test]
    fn requests_go_to_the_projects_in_turn() {
        let keys: Vec<String> = (0..13).map(|number| format!("key-{number:02}")).collect();
        let target = Target { keys: keys.clone(), ..Target::new(([127, 0, 0, 1], 80).into(), "") };
        let templates = templates(&target, &Shape::new(200..=200));
        let text = |template: &RequestTemplate| String::from_utf8(template.bytes.clone()).unwrap();
        assert!(templates.len() >= keys.len());
        for (template, key) in templates.iter().zip(keys.iter().cycle()) {
            assert!(text(template).contains(&format!("Authorization: Bearer {key}\r\n")), "{key}");
        }
    }
}
