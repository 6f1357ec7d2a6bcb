//! `millrace subject erase` and `anonymize`.
//!
//! One pass over everything that is stored, then a wait until everything that was accepted before the
//! command is stored, and another pass. Only then nothing can bring an event back, and the record forgets the
//! subject.

use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_store::{
    Erasure, ErasureKind, ErasureOrder, ErasurePlace, ErasureStep, ProjectInfo, Store, StoreError,
};
use millrace_stream::{SharedStream, Stream};
use time::OffsetDateTime;

use super::list::document;
use super::settled;
use crate::failure::Failure;
use crate::find;
use crate::operator;
use crate::output::{Output, counted};

/// API processes report samples every two seconds. What they refused before the command is in the store then.
const SAMPLES_AFTER: Duration = Duration::from_secs(3);

#[derive(Args, Debug)]
pub(crate) struct EraseArgs {
    /// The project's name
    project: String,
    /// The subject, as the events have it
    subject: String,
    /// Confirm that it cannot be undone; required
    #[arg(long)]
    yes: bool,
    /// Do not wait for events that are accepted and not stored yet; repeat the command later to finish
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn run(
    store: &dyn Store,
    stream: impl Future<Output = Result<SharedStream, Failure>>,
    output: &Output,
    arguments: &EraseArgs,
    kind: ErasureKind,
) -> Result<(), Failure> {
    let info = find::project(store, &arguments.project).await?;
    if !arguments.yes {
        let what = match kind {
            ErasureKind::Erase => "erases everything that is stored of this subject",
            ErasureKind::Anonymize => "takes the name off every event of this subject",
            ErasureKind::AnonymizeWithoutProperties => {
                "takes the name and the properties off every event of this subject"
            }
        };
        let advice =
            format!("this {what} in project {}, and cannot be undone; add --yes to do it", info.name);
        return Err(Failure::Usage(advice));
    }
    let stream = stream.await?;
    let started = Instant::now();
    let now_us = settled::now_us(&*stream, info.project).await?;
    // An entry that is accepted within this millisecond may be one of before.
    let before = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_us + 1_000) * 1_000)
        .map_err(|_| Failure::Refused("the stream's clock is not a time".to_owned()))?;
    let order = ErasureOrder {
        project: info.project,
        subject: arguments.subject.clone(),
        kind,
        received_before: before,
        by: operator::of_this_command(),
    };
    let erasure = store.begin_erasure(&order).await?;
    let erased = erase(store, &*stream, &info, &erasure, (started, arguments.no_wait)).await;
    let unreadable = erased.map_err(interrupted)?;
    let finished = store.finish_erasure(&erasure).await?;
    report(output, &info, &finished, unreadable)
}

/// Returns how many dead letters cannot be read.
async fn erase(
    store: &dyn Store,
    stream: &dyn Stream,
    info: &ProjectInfo,
    erasure: &Erasure,
    (started, is_impatient): (Instant, bool),
) -> Result<u64, Failure> {
    let before_us = i64::try_from(erasure.received_before.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    let was_settled = settled::pending(stream, info.project, before_us).await? == 0;
    let mut unreadable = pass(store, info, erasure, ErasurePlace::START).await?;
    let left = settled::pending(stream, info.project, before_us).await?;
    if left > 0 && is_impatient {
        return Err(Failure::Unfinished(format!(
            "everything that is stored was erased, and {} may still be stored: the erasure is open; repeat the command \
             later to finish it",
            counted(left, "event")
        )));
    }
    settled::wait(stream, info.project, before_us).await?;
    tokio::time::sleep(SAMPLES_AFTER.saturating_sub(started.elapsed())).await;
    if was_settled {
        // Only samples can have been added.
        pass(store, info, erasure, ErasurePlace::Rest).await?;
    } else {
        unreadable = pass(store, info, erasure, ErasurePlace::START).await?;
    }
    Ok(unreadable)
}

/// One pass. Returns how many dead letters cannot be read.
async fn pass(
    store: &dyn Store,
    info: &ProjectInfo,
    erasure: &Erasure,
    from: ErasurePlace,
) -> Result<u64, Failure> {
    let totals = store.totals(false).await?;
    let stored =
        totals.iter().find(|totals| totals.project == info.project).map_or(0, |totals| totals.stored);
    let progress = progress(stored);
    let (mut place, mut unreadable, mut erased) = (Some(from), 0, 0);
    while let Some(at) = place {
        let ErasureStep { next, events_read, events, unreadable: more, .. } =
            store.erase_step(erasure, at).await?;
        (place, unreadable, erased) = (next, unreadable + more, erased + events);
        progress.inc(events_read);
        progress.set_message(counted(erased, "event"));
    }
    progress.finish_and_clear();
    Ok(unreadable)
}

/// Drawn only when standard error is a terminal.
fn progress(events: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {human_pos} of at most {human_len} events read, {eta} left; {msg} erased",
    )
    .expect("the template is valid");
    ProgressBar::new(events).with_style(style)
}

fn interrupted(failure: Failure) -> Failure {
    match failure {
        Failure::Store(StoreError::Unavailable(cause)) => Failure::Store(StoreError::Unavailable(format!(
            "{cause}; the erasure is open; repeat the command to continue"
        ))),
        other => other,
    }
}

fn report(output: &Output, info: &ProjectInfo, erasure: &Erasure, unreadable: u64) -> Result<(), Failure> {
    let verb = if erasure.kind.keeps_events() { "Anonymized" } else { "Erased" };
    let mut text = format!(
        "{verb} {} in project {}, and erased {} from dead letters and {}.",
        counted(erasure.events, "event"),
        info.name,
        counted(erasure.dead_letters, "event"),
        counted(erasure.samples, "sample"),
    );
    if (erasure.events, erasure.dead_letters, erasure.samples) == (0, 0, 0) {
        text = format!("Project {} had no event, dead letter or sample of this subject.", info.name);
    }
    text.push_str(&format!(" The pseudonym is {}.", erasure.pseudonym));
    if unreadable > 0 {
        text.push_str(&format!(
            "\n{} cannot be read, and may have events of any subject; see `millrace dead-letters list`.",
            counted(unreadable, "dead letter")
        ));
    }
    let mut json = document(erasure, &info.name);
    json["unreadable_dead_letters"] = unreadable.into();
    output.print(&text, &json)
}
