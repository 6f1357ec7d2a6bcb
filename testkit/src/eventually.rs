//! Waiting for a condition.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Pause between two checks.
const POLL: Duration = Duration::from_millis(10);

/// The result of a check: `Some`, `Ok` and `true` mean that the condition holds, all other values that it
/// does not yet.
pub trait Condition {
    /// The value that a fulfilled condition yields.
    type Value;
    /// The value, or why the condition does not hold yet.
    ///
    /// # Errors
    /// The reason, for the message of a wait that times out.
    fn holds(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();
    fn holds(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Condition for Option<T> {
    type Value = T;
    fn holds(self) -> Result<T, String> {
        self.ok_or_else(|| "none".to_owned())
    }
}

impl<T, E: Display> Condition for Result<T, E> {
    type Value = T;
    fn holds(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Repeats `check` until the condition holds, and returns its value.
///
/// # Panics
/// When the condition does not hold at the deadline. The message contains `what` and the result of the last
/// check.
pub async fn eventually<C: Condition>(
    deadline: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> C,
) -> C::Value {
    let started = Instant::now();
    loop {
        match check().await.holds() {
            Ok(value) => return value,
            Err(reason) if started.elapsed() >= deadline => {
                panic!("waited {deadline:?} for {what}; last check: {reason}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
