//! The functions of a build for fault drills. The crate `fail` counts how often a point is reached and
//! chooses the action; this module sends the signals.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::{Either, ready};
use nix::sys::signal::{Signal, raise};

use crate::point::Point;
use crate::setting::UnknownSetting;

const VARIABLE: &str = "FAILPOINTS";
/// The values that `return(…)` takes.
const SIGNALS: [(&str, Signal); 3] =
    [("kill", Signal::SIGKILL), ("stop", Signal::SIGSTOP), ("term", Signal::SIGTERM)];
/// More time than a working connection needs to write its queued requests.
const SENDING_TIME: Duration = Duration::from_millis(50);

static ARMED: OnceLock<Vec<Point>> = OnceLock::new();

/// Arms the points in `FAILPOINTS`.
///
/// # Errors
/// [`UnknownSetting`] for an unknown point or action, because a drill with a misspelled point tests nothing.
pub fn arm() -> Result<(), UnknownSetting> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let mut armed = Vec::new();
    for setting in text.split(';').map(str::trim).filter(|setting| !setting.is_empty()) {
        let point = arm_one(setting).map_err(|reason| UnknownSetting {
            variable: VARIABLE,
            value: setting.to_owned(),
            reason,
        })?;
        armed.push(point);
    }
    ARMED.get_or_init(|| armed);
    Ok(())
}

fn arm_one(setting: &str) -> Result<Point, String> {
    let (name, actions) = setting.split_once('=').ok_or("expected point=action")?;
    let point = Point::ALL.into_iter().find(|point| point.name() == name);
    let point = point.ok_or_else(|| {
        let known = Point::ALL.map(Point::name).join(", ");
        format!("unknown point {name:?}; expected one of {known}")
    })?;
    for action in actions.split("->").filter(|action| action.contains("return")) {
        let argument = action.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        argument.and_then(signal_of).ok_or("expected return(kill), return(stop) or return(term)")?;
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

/// Performs the action of the point, if it is armed.
///
/// # Panics
/// When the operating system refuses the signal.
pub fn reach(point: Point) {
    if !is_armed(point) {
        return;
    }
    let argument = fail::eval(point.name(), Option::unwrap_or_default);
    let Some(signal) = argument.as_deref().and_then(signal_of) else { return };
    // Standard error is not buffered, so the line is written before the signal.
    tracing::warn!("failpoint {}: {signal} to this process", point.name());
    // `raise` signals this thread, so that it stops here. Another thread could receive a signal to the
    // process first, and this one would continue.
    raise(signal).expect("a process may signal itself");
}

/// Performs the action of the point, if it is armed, after connections had time to send their queued
/// requests. Connections are separate tasks.
pub async fn reach_once_sent(point: Point) {
    if is_armed(point) {
        tokio::time::sleep(SENDING_TIME).await;
        reach(point);
    }
}

/// Returns `work` without awaiting it, unless the point is armed: then it completes `work`, and performs the
/// action of the point before anything else is sent.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_with_an_unknown_point_or_action_is_refused() {
        for (setting, reason) in [
            ("store::after_copy", "expected point=action"),
            ("store::nowhere=return(kill)", "unknown point"),
            ("store::after_copy=return(explode)", "expected return(kill)"),
            ("store::after_copy=1*off->return", "expected return(kill)"),
            ("store::after_copy=explode", "explode"),
        ] {
            let refused = arm_one(setting).expect_err(setting);
            assert!(refused.contains(reason), "{setting}: {refused}");
        }
    }

    #[test]
    fn a_setting_of_every_point_is_accepted() {
        for point in Point::ALL {
            let armed = arm_one(&format!("{}=2*off->1*return(kill)", point.name()));
            assert!(armed == Ok(point), "{}", point.name());
        }
    }
}
