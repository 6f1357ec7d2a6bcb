//! Waiting for a fact.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long to wait before a fact is looked for again.
const POLL: Duration = Duration::from_millis(10);

/// What a look can bring: `Some`, `Ok` and `true` are the fact, all else is "not yet" and why.
pub trait Fact {
    /// What is known once the fact holds.
    type Value;
    /// The value, or why it does not hold yet.
    ///
    /// # Errors
    /// The reason, for the message of a wait that was in vain.
    fn holds(self) -> Result<Self::Value, String>;
}

impl Fact for bool {
    type Value = ();
    fn holds(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Fact for Option<T> {
    type Value = T;
    fn holds(self) -> Result<T, String> {
        self.ok_or_else(|| "none".to_owned())
    }
}

impl<T, E: Display> Fact for Result<T, E> {
    type Value = T;
    fn holds(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Looks again and again until the fact holds, and returns it.
///
/// # Panics
/// When it still does not hold at the deadline; the message says what was waited for and what the last look saw.
pub async fn eventually<F: Fact>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> F,
) -> F::Value {
    let started = Instant::now();
    loop {
        match look().await.holds() {
            Ok(value) => return value,
            Err(seen) if started.elapsed() >= deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
