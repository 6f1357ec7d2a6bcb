//! A server process with its folder and port: what Redis, PostgreSQL and Prometheus have in common.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::eventually::eventually;
use crate::folder::Folder;
use crate::process::Process;

/// Ports are chosen at random. Losing this many races for a free port in a row has another cause.
const START_ATTEMPTS: usize = 5;
const START_DEADLINE: Duration = Duration::from_secs(120);
/// For one attempt to ask a server that starts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The range of ports to choose from. It is below the ephemeral range, so that no outgoing connection takes
/// the port of a server between its death and its restart.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How to start a `Redis` or a `Postgres`.
#[derive(Clone, Copy, Default, Debug)]
pub struct ServerOptions<'a> {
    /// Settings of the configuration file, added to those of every test server.
    pub settings: &'a [(&'a str, &'a str)],
    /// Environment variables, such as `Shim::variables`.
    pub variables: &'a [(&'a str, &'a str)],
    /// Where the data directory is created, such as on a `Tmpfs`, instead of in the server's temporary
    /// folder. The log stays in the temporary folder, so that a server whose disk is full can still write it.
    /// PostgreSQL data that are in this folder already are used.
    pub folder: Option<&'a Path>,
}

/// What differs between the servers.
pub(crate) trait Server {
    /// The program's name, for messages.
    const NAME: &'static str;
    /// The file name of the log, in the server's folder.
    const LOG: &'static str;

    /// The command that starts the server.
    fn command(&self, daemon: &Endpoint) -> Command;

    /// Whether the server answers; the error says why not yet. It must detect another server on the same
    /// port, because a free port can be lost to a process of another test.
    async fn answers(&self, daemon: &Endpoint, pid: i32) -> Result<(), String>;
}

/// The folder and the port of a server.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) folder: Folder,
    pub(crate) port: u16,
}

impl Endpoint {
    pub(crate) fn log_file<S: Server>(&self) -> PathBuf {
        self.folder.path().join(S::LOG)
    }

    /// The log, opened for a server that writes it to standard output.
    pub(crate) fn open_log<S: Server>(&self) -> File {
        let file = File::options().create(true).append(true).open(self.log_file::<S>());
        file.expect("a server's folder is writable")
    }
}

/// A running server. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub(crate) struct Daemon<S> {
    // Dropped in this order: the process must have ended before its folder is removed.
    process: Process,
    endpoint: Endpoint,
    pub(crate) server: S,
}

impl<S: Server> Daemon<S> {
    /// Starts a server on a free port and waits until it answers. `prepare` creates its files and describes
    /// it; it is called again when the port is lost to another process.
    ///
    /// # Panics
    /// When the server does not start; the message contains its log.
    pub(crate) async fn start(prepare: impl Fn(&Endpoint) -> S) -> Self {
        for _ in 0..START_ATTEMPTS {
            let endpoint = Endpoint { folder: Folder::create(), port: free_port() };
            let server = prepare(&endpoint);
            let process = Process::start(server.command(&endpoint));
            let mut daemon = Self { process, endpoint, server };
            if daemon.answers().await {
                return daemon;
            }
            let log = daemon.log();
            let lost_port = log.to_ascii_lowercase().contains("address already in use");
            assert!(lost_port, "{} did not start; its log:\n{log}", S::NAME);
        }
        panic!("{} found its port taken {START_ATTEMPTS} times in a row", S::NAME)
    }

    pub(crate) fn port(&self) -> u16 {
        self.endpoint.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.endpoint.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.endpoint.log_file::<S>()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    pub(crate) async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Waits, without a runtime, until the process has ended.
    pub(crate) fn wait_blocking(&mut self) {
        if self.is_running() {
            self.process.child().wait().expect("a child can be waited for");
        }
    }

    /// Starts the server again, on the same port, after it has ended. False when it ended instead of
    /// answering.
    pub(crate) async fn start_again(&mut self) -> bool {
        self.process = Process::start(self.server.command(&self.endpoint));
        self.answers().await
    }

    /// Waits until the server answers. False when it has ended instead.
    async fn answers(&mut self) -> bool {
        let Self { process, endpoint, server } = self;
        eventually(START_DEADLINE, &format!("{} to answer", S::NAME), async || {
            if !process.is_running() {
                return Ok(false);
            }
            let pid = process.pid().as_raw_nonzero().get();
            // A server of another kind that has taken the port may never answer.
            let answers = tokio::time::timeout(ANSWER_TIMEOUT, server.answers(endpoint, pid)).await;
            answers.unwrap_or_else(|_| Err("no answer".into())).map(|()| true)
        })
        .await
    }
}

/// A port on which no process listens now, and that this process was not given before. Another process can
/// still take it before the server does.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = rand::random_range(PORTS);
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
