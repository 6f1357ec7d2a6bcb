//! The points of a build for drills. The library counts and chooses; what happens to the process is ours.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::{Either, ready};
use nix::sys::signal::{Signal, raise};

use crate::point::Point;
use crate::setting::UnknownSetting;

const VARIABLE: &str = "FAILPOINTS";
/// What `return(…)` may ask for.
const SIGNALS: [(&str, Signal); 3] =
    [("kill", Signal::SIGKILL), ("stop", Signal::SIGSTOP), ("term", Signal::SIGTERM)];
/// More than any connection that is alive takes to write what it was given.
const SENDING_TIME: Duration = Duration::from_millis(50);

static ARMED: OnceLock<Vec<Point>> = OnceLock::new();

/// Arms the points that `FAILPOINTS` names.
///
/// # Errors
/// [`UnknownSetting`] for a point that does not exist and for an action that cannot be: a misspelt drill proves nothing.
pub fn arm() -> Result<(), UnknownSetting> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let mut armed = Vec::new();
    for setting in text.split(';').map(str::trim).filter(|setting| !setting.is_empty()) {
        let point = arm_one(setting).map_err(|reason| UnknownSetting {
            variable: VARIABLE,
            value: setting.to_owned(),
            reason: reason.to_string(),
        })?;
        armed.push(point);
    }
    ARMED.get_or_init(|| armed);
    Ok(())
}

fn arm_one(setting: &str) -> Result<Point, String> {
    let (name, actions) = setting.split_once('=').ok_or("expected point=action")?;
    let known = Point::ALL.map(Point::name).join(", ");
    let point = Point::ALL.into_iter().find(|point| point.name() == name);
    let point = point.ok_or_else(|| format!("there is no point {name:?}; there are {known}"))?;
    for action in actions.split("->").filter(|action| action.contains("return")) {
        let asked = action.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        asked.and_then(signal_of).ok_or("return takes kill, stop or term, as in return(kill)")?;
    }
    fail::cfg(name, actions)?;
    Ok(point)
}

fn signal_of(word: &str) -> Option<Signal> {
    SIGNALS.iter().find(|(name, _)| *name == word).map(|(_, signal)| *signal)
}

fn is_armed(point: Point) -> bool {
    ARMED.get().is_some_and(|armed| armed.contains(&point))
}

/// Acts when the point is armed.
pub fn reach(point: Point) {
    if !is_armed(point) {
        return;
    }
    let asked = fail::eval(point.name(), Option::unwrap_or_default);
    let Some(signal) = asked.as_deref().and_then(signal_of) else { return };
    // Standard error is not buffered: the line is out before the signal.
    tracing::warn!("failpoint {}: {signal} to ourselves", point.name());
    // Raised in this thread, so that it does not go on; a signal to the process could be taken by another one first.
    raise(signal).expect("a process may signal itself");
}

/// See the ordinary build's.
pub async fn reach_once_sent(point: Point) {
    if is_armed(point) {
        tokio::time::sleep(SENDING_TIME).await;
        reach(point);
    }
}

/// See the ordinary build's.
pub async fn reach_after<T, E>(
    point: Point,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    if !is_armed(point) {
        return Either::Left(work);
    }
    let done = work.await;
    if done.is_ok() {
        reach(point);
    }
    Either::Right(ready(done))
}
