//! Waits until what was accepted before a moment is stored.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use millrace_event::plan::ProjectId;
use millrace_stream::{Stream, StreamError};
use time::OffsetDateTime;

use crate::output::counted;

const POLL: Duration = Duration::from_millis(200);
/// Without progress for this long, no worker is running.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// The time on the stream's clock, in microseconds since 1970. It is never behind an entry of the project.
pub(super) async fn now_us(stream: &dyn Stream, project: ProjectId) -> Result<i64, StreamError> {
    match stream.limits_used(project, &[]).await {
        Ok((now_us, _)) => Ok(now_us.cast_signed()),
        // The stream has never been used.
        Err(StreamError::EpochChanged) => {
            Ok(i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX))
        }
        Err(error) => Err(error),
    }
}

/// How many events of the project still wait of those that were accepted before this moment, at most.
pub(super) async fn pending(
    stream: &dyn Stream,
    project: ProjectId,
    before_us: i64,
) -> Result<u64, StreamError> {
    // Read first: the oldest entry is at least this much younger than the moment below says.
    let now_us = now_us(stream, project).await?;
    let backlog = stream.backlog().await?;
    let age_us = i64::try_from(backlog.oldest_age_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    if backlog.entries == 0 || now_us.saturating_sub(age_us) > before_us {
        return Ok(0);
    }
    let counters = stream.counters(&[project]).await?;
    Ok(counters.first().map_or(0, |counters| counters.pending.max(0).unsigned_abs()))
}

/// Waits, and says for how many events. Never returns while no worker stores them.
pub(super) async fn wait(stream: &dyn Stream, project: ProjectId, before_us: i64) -> Result<(), StreamError> {
    let mut left = pending(stream, project, before_us).await?;
    if left == 0 {
        return Ok(());
    }
    let is_shown = console::Term::stderr().is_term();
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid");
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(POLL);
    let text =
        |left| format!("waiting until {} that were accepted before are stored", counted(left, "event"));
    if !is_shown {
        eprintln!("{}", text(left));
    }
    let (mut moved, mut is_warned) = (Instant::now(), false);
    while left > 0 {
        spinner.set_message(text(left));
        tokio::time::sleep(POLL).await;
        let now = pending(stream, project, before_us).await?;
        if now != left {
            (left, moved) = (now, Instant::now());
        } else if moved.elapsed() > STUCK_AFTER && !is_warned {
            is_warned = true;
            spinner.suspend(|| {
                eprintln!(
                    "{} wait to be stored and nothing stores them: start a worker. You can also stop this command \
                     with Ctrl-C, and repeat it later to finish",
                    counted(left, "event")
                );
            });
        }
    }
    spinner.finish_and_clear();
    Ok(())
}
