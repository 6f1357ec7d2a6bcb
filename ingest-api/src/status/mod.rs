//! The status page, for people: `GET /` is one page that needs nothing from the network, `GET /status/stream` tells it what
//! happens, by server-sent events.
//!
//! It tells of all projects and asks for no key, so `access` decides who is answered. `refusals` remembers what was
//! refused lately, `sampler` asks stream and store while somebody watches, `counted` and `today` make numbers of the
//! answers, `snapshot` is the form in which they are told, and `feed` hands them to whoever watches.
//!
//! What this room must never do: ask anything while nobody watches, hold up a batch, wait for a watcher that does not
//! read, tell keys or contents of events, or let a page of another site read along.

mod access;
mod counted;
mod feed;
mod page;
mod refusals;
mod sampler;
mod snapshot;
mod today;

use std::sync::Arc;

use hyper::http::request::Parts;
use millrace_event::event::Rejection;
use tokio::sync::watch;

pub use access::{Audience, StatusPage};
pub use feed::WATCHERS_MAX;
pub use sampler::keep_telling;

use crate::answer::{self, Answer};
use crate::error::Problem;
use crate::service::Stage;
use feed::Feed;
use refusals::Refusals;

/// The two things that are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// The page.
    Page,
    /// What it is told.
    Live,
}

/// What the page is told, and who may hear it.
#[derive(Debug)]
pub struct Status {
    audience: Audience,
    refusals: Refusals,
    feed: Feed,
}

impl Status {
    /// Nobody watches yet.
    pub fn new(audience: Audience) -> Self {
        Self { audience, refusals: Refusals::default(), feed: Feed::default() }
    }

    /// Whether there is a page at all.
    pub fn is_shown(&self) -> bool {
        self.audience != Audience::Nobody
    }

    /// Shows the page, or begins to tell.
    ///
    /// # Errors
    /// 404 for whom it is not meant for, 503 when as many watch as may, or the server is stopping.
    pub fn show(&self, view: View, head: &Parts, stage: watch::Receiver<Stage>) -> Result<Answer, Problem> {
        self.audience.admits(head).map_err(|stranger| Problem::NotFound(stranger.words()))?;
        match view {
            View::Page => Ok(page::show()),
            View::Live => {
                access::asked_by_the_page(head).map_err(|stranger| Problem::NotFound(stranger.words()))?;
                if *stage.borrow() > Stage::Serving {
                    return Err(Problem::Overloaded("the server is stopping"));
                }
                let told = self.feed.watch(stage);
                let told = told.ok_or(Problem::Overloaded("as many watch the status page as may"))?;
                Ok(answer::event_stream(told))
            }
        }
    }

    /// Remembers events that were refused, their neighbours being taken or not.
    pub fn note_events(&self, project: &Arc<str>, rejected: &[Rejection]) {
        if self.is_shown() && !rejected.is_empty() {
            self.refusals.note_events(project, rejected);
        }
    }

    /// Remembers a request that was refused as a whole, when mending it is the client's business.
    pub fn note_request(&self, project: Option<&Arc<str>>, problem: &Problem) {
        if self.is_shown() {
            self.refusals.note_request(project, problem);
        }
    }
}
