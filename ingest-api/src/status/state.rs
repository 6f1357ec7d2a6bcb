//! The status page of one server: its contents and its audience.

use std::sync::Arc;

use hyper::http::request::Parts;
use millrace_event::event::Rejection;
use tokio::sync::watch;

use super::feed::Feed;
use super::page;
use super::refusals::Refusals;
use crate::answer::{self, Answer};
use crate::audience::{Audience, check_fetch_site};
use crate::error::Problem;
use crate::problem_code::ProblemCode;
use crate::stage::Stage;

#[derive(Debug)]
pub struct Status {
    audience: Audience,
    stage: watch::Receiver<Stage>,
    pub(super) refusals: Refusals,
    pub(super) feed: Feed,
}

impl Status {
    pub fn new(audience: Audience, stage: watch::Receiver<Stage>) -> Self {
        Self { audience, stage, refusals: Refusals::default(), feed: Feed::default() }
    }

    /// Whether there is a page.
    pub fn is_shown(&self) -> bool {
        self.audience != Audience::Empty
    }

    /// `GET /`: the page.
    ///
    /// # Errors
    /// `not_found` for a client outside the audience.
    pub fn page(&self, head: &Parts) -> Result<Answer, Problem> {
        self.audience.check(head)?;
        Ok(page::get())
    }

    /// `GET /status/stream`: the feed of the page.
    ///
    /// # Errors
    /// `not_found` for a client outside the audience. `overloaded` when there are too many watchers, or the
    /// server is stopping.
    pub fn stream(&self, head: &Parts) -> Result<Answer, Problem> {
        self.audience.check(head)?;
        check_fetch_site(head)?;
        if *self.stage.borrow() > Stage::Serving {
            return Err(Problem::new(
                ProblemCode::Overloaded,
                "the server is stopping; watch another server",
            ));
        }
        let too_many = "too many clients watch the status page; close one, or try again later";
        let feed = self.feed.watch(self.stage.clone());
        Ok(answer::event_stream(feed.ok_or(Problem::new(ProblemCode::Overloaded, too_many))?))
    }

    /// Remembers events that were rejected, even if the rest of their batch was accepted.
    pub fn note_events(&self, project: &Arc<str>, rejected: &[Rejection]) {
        if self.is_shown() && !rejected.is_empty() {
            self.refusals.note_events(project, rejected);
        }
    }

    /// Remembers a request that was refused as a whole, if its client can correct it.
    pub fn note_request(&self, project: Option<&Arc<str>>, problem: &Problem) {
        if self.is_shown() {
            self.refusals.note_request(project, problem);
        }
    }
}
