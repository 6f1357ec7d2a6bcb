//! Segment's protocol, which RudderStack's SDKs use as well. Success is exactly 200: to some of the SDKs, any
//! other 2xx is a failure.

use hyper::http::request::Parts;
use millrace_event::dialect::{Dialect, segment};

use super::{Protocol, ok};
use crate::answer::Answer;
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;

pub static BATCH: Protocol = protocol(&segment::BATCH);
pub static TRACK: Protocol = protocol(&segment::TRACK);
pub static IDENTIFY: Protocol = protocol(&segment::IDENTIFY);
pub static PAGE: Protocol = protocol(&segment::PAGE);
pub static SCREEN: Protocol = protocol(&segment::SCREEN);
pub static GROUP: Protocol = protocol(&segment::GROUP);
pub static ALIAS: Protocol = protocol(&segment::ALIAS);

const fn protocol(dialect: &'static Dialect) -> Protocol {
    Protocol {
        dialect,
        packing: Packing::Plain,
        id_member: None,
        complete: None,
        choose: None,
        empty: None,
        success,
        refusal: Problem::answer,
    }
}

/// With the calls that became dead letters.
fn success(_head: &Parts, receipt: &Receipt) -> Answer {
    if receipt.dead.is_empty() {
        return ok(r#"{"success":true}"#);
    }
    let dead = serde_json::to_string(&receipt.dead).expect("numbers and strings");
    ok(format!(r#"{{"success":true,"dead":{dead}}}"#))
}
