//! A running `millrace`, and its clients.

use std::net::SocketAddr;

use testkit::http::{Answer, get, post};
use testkit::{Program, eventually};

use super::PATIENCE;

pub struct Service {
    pub program: Program,
    pub address: SocketAddr,
    pub metrics: SocketAddr,
}

impl Service {
    /// Waits until a program that was started is ready.
    pub async fn of(mut program: Program) -> Self {
        let address = address_in(&program.wait_for_line("  Events ").await);
        let metrics = address_in(&program.wait_for_line("  Metrics ").await);
        program.wait_for_line("Ctrl-C stops it").await;
        Self { program, address, metrics }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key of the first project. Only the first start prints it.
    pub fn key(&self) -> String {
        let log = self.program.log();
        let key = log.split_whitespace().find(|word| word.starts_with("mk_"));
        key.unwrap_or_else(|| panic!("no key was printed:\n{log}")).to_owned()
    }

    /// Sends SIGINT, as Ctrl-C does, and returns everything that the program has printed.
    pub async fn interrupt(mut self) -> String {
        self.program.interrupt();
        assert!(self.program.wait_exit().await.success(), "{}", self.program.log());
        self.program.log()
    }

    /// Asks for the limits of a key until the answer is right.
    pub async fn answers(&self, key: &str, what: &str, is_right: impl Fn(&Answer) -> bool) {
        let bearer = format!("Bearer {key}");
        eventually(PATIENCE, what, async || {
            let answer = get(self.address, "/v1/limits", &[("authorization", &bearer)]).await;
            if is_right(&answer) { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    /// Posts a batch with a key that may be new, and waits until it is stored.
    pub async fn store(&self, key: &str, body: &str) {
        self.answers(key, "the key to be accepted", |answer| answer.status == 200).await;
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
        let answer = post(self.address, "/v1/events", &headers, body.to_owned()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// The address in a line with a URL.
fn address_in(line: &str) -> SocketAddr {
    let (_, rest) = line.split_once("http://").unwrap_or_else(|| panic!("no URL in {line:?}"));
    rest.split('/').next().unwrap().parse().unwrap_or_else(|error| panic!("{error}: {line:?}"))
}
