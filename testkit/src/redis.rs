//! A real redis-server.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use rustix::process::Signal;

use crate::eventually;
use crate::folder::Folder;
use crate::server::{Process, free_port, mortal, program};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Ports are chosen at random among free ones; losing this many races in a row is a sign of something else.
const START_ATTEMPTS: usize = 5;
const INSTALL: &str = "install Redis 6.2 or newer (Debian: apt-get install redis-server)";

/// What "acknowledged means on disk" needs, and what tests need besides.
const SETTINGS: &[(&str, &str)] = &[
    ("bind", "127.0.0.1"),
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
    ("maxmemory-policy", "noeviction"),
    ("save", ""),
    ("logfile", "redis.log"),
    ("daemonize", "no"),
];

/// A Redis of one's own: strictly durable, on a free port of 127.0.0.1, stopped and removed when dropped.
#[derive(Debug)]
pub struct Redis {
    // Dropped in this order: the server must be gone before its folder.
    process: Process,
    folder: Folder,
    port: u16,
    settings: Vec<(String, String)>,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with these settings of redis.conf on top of the usual ones.
    ///
    /// # Panics
    /// See [`Redis::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for _ in 0..START_ATTEMPTS {
            let folder = Folder::create();
            let port = free_port();
            let process = launch(folder.path(), port, &settings);
            let mut server = Self { process, folder, port, settings: settings.clone() };
            if server.answers().await {
                return server;
            }
            let log = server.log();
            assert!(log.contains("Address already in use"), "redis-server did not start:\n{log}");
        }
        panic!("redis-server found its port taken {START_ATTEMPTS} times in a row")
    }

    /// `redis://127.0.0.1:port/0`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The port it listens on; the same one after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    /// A connection whose calls may take as long as they like.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub async fn connect(&self) -> MultiplexedConnection {
        connect(self.port).await.expect("a running Redis accepts connections")
    }

    /// SIGKILL; returns when it is dead.
    pub async fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }

    /// Starts it again, on the same port and the same data, killing it first if it runs; returns when it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.process = launch(self.folder.path(), self.port, &self.settings);
        assert!(self.answers().await, "redis-server did not start again:\n{}", self.log());
    }

    /// Kills it and starts it again with nothing in it: a Redis that has lost its memory.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn wipe_and_restart(&mut self) {
        self.kill().await;
        let data = self.folder.path().join("data");
        std::fs::remove_dir_all(&data).expect("the folder of a dead server can be removed");
        self.restart().await;
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Waits until it answers and has loaded its data; false when it has ended instead.
    async fn answers(&mut self) -> bool {
        let (port, process) = (self.port, &mut self.process);
        eventually(START_DEADLINE, "redis-server to answer PING", async || {
            if process.exit().is_some() {
                return Ok(false);
            }
            answers_as(port, process.pid().as_raw_nonzero().get()).await.map(|()| true)
        })
        .await
    }
}

fn launch(folder: &Path, port: u16, settings: &[(String, String)]) -> Process {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).expect("a folder can be made in our own");
    let mut command = mortal(&program("redis-server", &[], INSTALL));
    command.args(["--port", &port.to_string(), "--dir"]).arg(&data);
    for (name, value) in SETTINGS {
        let value =
            if *name == "logfile" { folder.join(value).display().to_string() } else { (*value).to_owned() };
        command.arg(format!("--{name}")).arg(value);
    }
    for (name, value) in settings {
        command.arg(format!("--{name}")).arg(value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::start(command)
}

async fn connect(port: u16) -> Result<MultiplexedConnection, redis::RedisError> {
    let client = Client::open(("127.0.0.1", port))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// PING, and a look at the process id: a stranger's server may have taken the port just before ours.
async fn answers_as(port: u16, pid: i32) -> Result<(), String> {
    let talk = async || {
        let mut connection = connect(port).await?;
        let () = redis::cmd("PING").query_async(&mut connection).await?;
        redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
    };
    let info = talk().await.map_err(|error| error.to_string())?;
    let ours = info.lines().any(|line| line == format!("process_id:{pid}"));
    if ours { Ok(()) } else { Err(format!("another Redis listens on port {port}")) }
}
