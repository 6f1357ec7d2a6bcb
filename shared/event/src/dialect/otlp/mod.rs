//! OpenTelemetry's log records, as OTLP/HTTP sends them: `{"resourceLogs":[{"resource":…, "scopeLogs":
//! [{"scope":…, "logRecords":[…]}]}]}`, in JSON and in protobuf. Each record is an event:
//!
//! - id: the attribute `log.record.uid`, or else a digest of the event, its resource and its scope
//! - name: `eventName`, or else the attribute `event.name`, or else `$log`
//! - timestamp: `timeUnixNano`, or else `observedTimeUnixNano`
//! - subject: the first of the attributes `user.id`, `enduser.id`, `enduser.pseudo.id`, `app.installation.id`
//!   and `device.id`, of the record, or else of the resource
//! - properties: the attributes, and the members of a body that is an object
//! - properties.message: a body of any other kind
//! - context.ip: the attribute `client.address`, or else `http.client_ip`, or else `source.address`, if the
//!   project stores addresses
//! - context.library: `telemetry.sdk.name` and `telemetry.sdk.version` of the resource, or else the scope's
//!   name and version
//! - context.otel: `resource` and `scope`, and everything else, such as `severityNumber` and `traceId`
//!
//! A record has no id, and exporters send the same bytes again when an answer was lost. So its content
//! identifies it, with that of its resource and its scope. Of equal records in one request, the first, the
//! second and so on are different events. Two of them in different requests are one event.
//!
//! One module maps a record to an event, whichever encoding it came in; the readers of both encodings borrow
//! from the body, and write nothing but JSON that is stored. A record that cannot be read becomes a dead
//! letter; a body that cannot be taken apart is refused.
//!
//! Sources: the OTLP specification 1.10 with its JSON encoding; the exporters
//! `opentelemetry-exporter-otlp-proto-http` for Python and `@opentelemetry/exporter-logs-otlp-http`.

mod any_value;
mod identity;
mod json;
mod level;
mod protobuf;
mod record;
mod wire;

use super::definition::{Dialect, Framing, InvalidEvents, KeyPlaces, unread};

/// `application/json`
pub static JSON: Dialect = Dialect {
    name: "otlp-json",
    framing: Framing::Own(json::read),
    expected: json::EXPECTED,
    read_event: unread,
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces::NONE,
};

/// `application/x-protobuf`
pub static PROTOBUF: Dialect = Dialect {
    name: "otlp-protobuf",
    framing: Framing::Own(protobuf::read),
    expected: "a protobuf message ExportLogsServiceRequest",
    read_event: unread,
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces::NONE,
};
