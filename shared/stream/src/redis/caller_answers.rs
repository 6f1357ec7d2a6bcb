//! Hands the answers of a call to callers on another thread: all of them together, because waking a thread
//! for each of them would cost more than the answer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::{Decision, StreamError};

/// What a caller receives.
pub(super) type Answer = Result<Decision, StreamError>;

/// The answers for callers of one thread that were made on other threads.
#[derive(Default)]
pub(super) struct CallerAnswers {
    arrived: Mutex<Vec<(oneshot::Sender<Answer>, Answer)>>,
    some: Notify,
}

impl CallerAnswers {
    /// Hands these over, from another thread.
    pub(super) fn add(&self, answers: Vec<(oneshot::Sender<Answer>, Answer)>) {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
        self.some.notify_one();
    }

    /// Passes on what is handed over, on the thread of the callers, until the task is aborted.
    pub(super) async fn pass_on(self: Arc<Self>) {
        loop {
            self.some.notified().await;
            let arrived = std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner));
            for (caller, answer) in arrived {
                // A caller that no longer waits can repeat the request safely, because of its batch id.
                caller.send(answer).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_caller_gets_its_own_answer() {
        let answers = Arc::new(CallerAnswers::default());
        let passing = tokio::spawn(Arc::clone(&answers).pass_on());
        for _ in 0..3 {
            let (first, one) = oneshot::channel();
            let (left, none) = oneshot::channel();
            let (second, two) = oneshot::channel();
            drop(none);
            let failed = |reason: &str| Err(StreamError::Refused(reason.to_owned()));
            answers.add(vec![(first, failed("one")), (left, failed("none"))]);
            answers.add(vec![(second, Ok(Decision::EpochChanged))]);
            assert!(matches!(one.await.unwrap(), Err(StreamError::Refused(reason)) if reason == "one"));
            assert!(matches!(two.await.unwrap(), Ok(Decision::EpochChanged)));
        }
        passing.abort();
    }
}
