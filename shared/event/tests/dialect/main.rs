//! Events and bodies that the dialects accept or reject. These tests need no server; the store's tests show
//! that PostgreSQL stores every accepted event.

mod accepted;
mod bodies;
mod bounds;
mod dead;
mod exported;
mod new_format;
mod numbers;
mod otlp;
mod properties;
mod rejected;
mod repaired;
mod sdks;
mod segment;
mod single;
mod snowplow;
mod times;
mod tolerant;
