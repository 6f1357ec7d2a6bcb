//! Jitsu's protocol: one call of Segment's format for each request, whose path names its type. The SDK reads
//! JSON for success. It reports any refusal to the application, and never sends a call again by itself.

use hyper::http::request::Parts;
use millrace_event::dialect::{Dialect, segment};

use super::{Protocol, ok};
use crate::answer::Answer;
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;

static BATCH: Protocol = protocol(&segment::BATCH);
static TRACK: Protocol = protocol(&segment::TRACK);
static IDENTIFY: Protocol = protocol(&segment::IDENTIFY);
static PAGE: Protocol = protocol(&segment::PAGE);
static SCREEN: Protocol = protocol(&segment::SCREEN);
static GROUP: Protocol = protocol(&segment::GROUP);
static ALIAS: Protocol = protocol(&segment::ALIAS);
static CALL: Protocol = protocol(&segment::CALL);

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

/// The protocol of `/api/s/TYPE` and `/api/s/s2s/TYPE`. Of any other type, the call's own counts.
pub fn of_type(name: &str) -> &'static Protocol {
    match name {
        "batch" => &BATCH,
        "track" => &TRACK,
        "identify" => &IDENTIFY,
        "page" => &PAGE,
        "screen" => &SCREEN,
        "group" => &GROUP,
        "alias" => &ALIAS,
        _ => &CALL,
    }
}

fn success(_head: &Parts, _receipt: &Receipt) -> Answer {
    ok(r#"{"ok":true}"#)
}
