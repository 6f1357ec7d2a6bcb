//! What every implementation of the stream promises, and what the one on Redis promises besides.
//!
//! `suite` is written against the traits alone: a second implementation needs a `Bench` and one call of
//! `hold_to_the_suite!`.

mod bench;
mod model;
mod on_redis;
mod redis_faults;
mod suite;
