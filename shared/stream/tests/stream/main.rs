//! What every implementation of the stream promises, and what each promises besides.
//!
//! `suite` is written against the traits alone: an implementation needs a `Bench` and one call of
//! `hold_to_the_suite!`.

mod bench;
mod embedded_processes;
mod embedded_speed;
mod model;
mod on_embedded;
mod on_redis;
mod redis_faults;
mod suite;
