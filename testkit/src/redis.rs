//! A real redis-server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::authority::Certificate;
use crate::daemon::{Daemon, Endpoint, Server, ServerOptions, free_port};
use crate::process::{Pairs, mortal, owned};
use crate::{eventually, versions};

/// How long a replica may take to get everything.
const REPLICATION_DEADLINE: Duration = Duration::from_secs(120);
/// Longer than a test, in milliseconds.
const WRITES_PAUSED_MS: &str = "3600000";
const QUERY_TIME_MAX: Duration = Duration::from_secs(1);

/// The strictly durable settings that Millrace requires, and those that tests need.
const SETTINGS: &[(&str, &str)] = &[
    ("bind", "127.0.0.1"),
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
    ("maxmemory-policy", "noeviction"),
    ("save", ""),
    ("daemonize", "no"),
];

/// A strictly durable Redis on a free port of 127.0.0.1. Dropping it kills the server and removes its files.
#[derive(Debug)]
pub struct Redis {
    daemon: Daemon<RedisServer>,
}

/// The data of a [`Redis`] at a moment.
#[derive(Debug)]
pub struct DataCopy(TempDir);

#[derive(Debug)]
struct RedisServer {
    data: PathBuf,
    settings: Pairs,
    variables: Pairs,
    /// The port for other nodes, of a node of a cluster. By default it would be 10,000 more than the other.
    cluster_port: Option<u16>,
}

impl Server for RedisServer {
    const NAME: &'static str = "redis-server";
    const LOG: &'static str = "redis.log";

    fn command(&self, endpoint: &Endpoint) -> Command {
        fs::create_dir_all(&self.data).expect("the data directory can be created");
        let mut command = mortal(&versions::redis_server());
        command.args(["--port", &endpoint.port.to_string(), "--dir"]).arg(&self.data);
        command.arg("--logfile").arg(endpoint.log_file::<Self>());
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in SETTINGS.iter().copied().chain(settings) {
            command.arg(format!("--{name}")).arg(value);
        }
        if let Some(port) = self.cluster_port {
            command.args(["--cluster-port", &port.to_string()]);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    async fn answers(&self, endpoint: &Endpoint, pid: i32) -> Result<(), String> {
        let port = endpoint.port;
        let query = async || {
            let mut connection = connect(port).await?;
            let () = redis::cmd("PING").query_async(&mut connection).await?;
            redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
        };
        let info = query().await.map_err(|error| error.to_string())?;
        let is_this_server = info.lines().any(|line| line == format!("process_id:{pid}"));
        if !is_this_server {
            return Err(format!("another Redis listens on port {port}"));
        }
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        versions::check_redis(version.expect("Redis names its version"));
        Ok(())
    }
}

impl Redis {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with these settings of redis.conf, added to the usual ones.
    ///
    /// # Panics
    /// See [`Redis::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_options(ServerOptions { settings, ..ServerOptions::default() }).await
    }

    /// # Panics
    /// See [`Redis::start`].
    pub async fn start_options(options: ServerOptions<'_>) -> Self {
        let prepare = |endpoint: &Endpoint| RedisServer {
            data: options.folder.unwrap_or(endpoint.folder.path()).join("redis-data"),
            settings: owned(options.settings),
            variables: owned(options.variables),
            cluster_port: None,
        };
        Self { daemon: Daemon::start(prepare).await }
    }

    /// Starts a server that can be a node of a cluster.
    pub(crate) async fn start_cluster_node(settings: &[(&str, &str)]) -> Self {
        let prepare = |endpoint: &Endpoint| RedisServer {
            data: endpoint.folder.path().join("redis-data"),
            settings: owned(settings),
            variables: Pairs::new(),
            cluster_port: Some(free_port()),
        };
        Self { daemon: Daemon::start(prepare).await }
    }

    pub(crate) fn cluster_port(&self) -> Option<u16> {
        self.daemon.server.cluster_port
    }

    /// Settings for TLS on a free port: with this certificate, for clients and between servers.
    ///
    /// # Panics
    /// When a path is not UTF-8.
    pub(crate) fn secured(certificate: &Certificate, ca: &Path) -> Pairs {
        let port = free_port().to_string();
        let between = [("tls-replication", "yes"), ("tls-cluster", "yes")];
        owned(&[&certificate.redis_settings(&port, ca, "no")[..], &between].concat())
    }

    /// The port for TLS, of a server that has one.
    pub fn tls_port(&self) -> Option<u16> {
        let (_, port) = self.daemon.server.settings.iter().find(|(name, _)| name == "tls-port")?;
        port.parse().ok()
    }

    /// The port at which other servers connect: that for TLS, of a server that has one.
    pub(crate) fn peer_port(&self) -> u16 {
        self.tls_port().unwrap_or_else(|| self.port())
    }

    /// `redis://127.0.0.1:PORT/0`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port())
    }

    /// The port. It stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.daemon.port()
    }

    pub fn pid(&self) -> i32 {
        self.daemon.pid()
    }

    /// The server's temporary folder.
    pub fn folder(&self) -> PathBuf {
        self.daemon.folder().to_owned()
    }

    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Opens a connection without a response timeout.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub async fn connect(&self) -> MultiplexedConnection {
        connect(self.port()).await.expect("a running Redis accepts connections")
    }

    /// Sends one command.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn run(&self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async::<redis::Value>(&mut self.connect().await).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    /// Starts a server with these settings, added to the usual ones, as a replica of this one. Returns when
    /// it has everything and keeps up.
    ///
    /// # Panics
    /// When it cannot be started or does not connect.
    pub async fn replica_with(&self, settings: &[(&str, &str)]) -> Self {
        let replica = Self::start_with(settings).await;
        self.run(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await;
        replica.run(&["REPLICAOF", "127.0.0.1", &self.port().to_string()]).await;
        eventually(REPLICATION_DEADLINE, "the replica to be connected", async || {
            let (mut connection, mut ask) = (self.connect().await, redis::cmd("INFO"));
            let info = ask.arg("replication").query_async::<String>(&mut connection).await;
            let info = info.map_err(|error| error.to_string())?;
            let port = format!("port={},state=online", replica.port());
            if info.contains(&port) { Ok(()) } else { Err(info) }
        })
        .await;
        replica
    }

    /// Lets no client write, until the server ends or `CLIENT UNPAUSE`. Returns when this many replicas have
    /// everything that the server has acknowledged: what it acknowledges later may be lost with it.
    ///
    /// # Panics
    /// When the replicas are not there or do not catch up.
    pub async fn pause_writes(&self, replicas: usize) {
        self.run(&["CLIENT", "PAUSE", WRITES_PAUSED_MS, "WRITE"]).await;
        eventually(REPLICATION_DEADLINE, "the replicas to have everything", async || {
            let (mut connection, mut ask) = (self.connect().await, redis::cmd("INFO"));
            let info = ask.arg("replication").query_async::<String>(&mut connection).await;
            let info = info.map_err(|error| error.to_string())?;
            let own = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap_or("?");
            let lines: Vec<_> = info.lines().filter(|line| line.starts_with("slave")).collect();
            let has_all = |line: &&str| line.contains(&format!("offset={own},"));
            if lines.len() == replicas && lines.iter().all(has_all) { Ok(()) } else { Err(info) }
        })
        .await;
    }

    /// `master` or `slave`; `None` while the server does not say.
    pub async fn role(&self) -> Option<String> {
        match query(self.port(), &["ROLE"]).await {
            Ok(redis::Value::Array(role)) => match role.first() {
                Some(redis::Value::BulkString(role)) => Some(String::from_utf8_lossy(role).into_owned()),
                _ => None,
            },
            _ => None,
        }
    }

    /// SIGKILL; returns when the process has ended.
    pub async fn kill(&mut self) {
        self.daemon.kill().await;
    }

    /// Whether the process runs. A Redis that cannot write its append-only file ends by itself.
    pub fn is_running(&mut self) -> bool {
        self.daemon.is_running()
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// When it has not ended after a minute.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        self.daemon.ended().await
    }

    /// Starts the server again on the same port and data; kills it first if it runs. Returns when it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.try_restart().await, "redis-server did not start again; its log:\n{}", self.log());
    }

    /// Like [`Redis::restart`], but returns false when the server ended instead, as it does while its disk is
    /// full.
    pub async fn try_restart(&mut self) -> bool {
        self.kill().await;
        self.daemon.start_again().await
    }

    /// Restarts the server with these settings in place of those it was started with.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_with(&mut self, settings: &[(&str, &str)]) {
        self.daemon.server.settings = owned(settings);
        self.restart().await;
    }

    /// Kills the server, removes its data and starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn wipe_and_restart(&mut self) {
        self.kill().await;
        fs::remove_dir_all(&self.daemon.server.data).expect("the data of a dead server can be removed");
        self.restart().await;
    }

    /// Copies the data of a server that does not run.
    ///
    /// # Panics
    /// When the server runs.
    pub fn copy_data(&mut self) -> DataCopy {
        assert!(
            !self.is_running(),
            "kill the server first: a running server writes while its data is copied"
        );
        let copy = TempDir::new().expect("a temporary folder can be created");
        copy_folder(&self.daemon.server.data, copy.path());
        DataCopy(copy)
    }

    /// Replaces the data of a server that does not run, as a restored backup does.
    ///
    /// # Panics
    /// When the server runs.
    pub fn restore_data(&mut self, copy: &DataCopy) {
        assert!(!self.is_running(), "kill the server first: a running server keeps its data in memory");
        fs::remove_dir_all(&self.daemon.server.data).expect("the data of a dead server can be removed");
        copy_folder(copy.0.path(), &self.daemon.server.data);
    }

    /// Removes the last bytes of the newest append-only file, as a crash of the machine might. Returns the
    /// number of bytes left in the file.
    ///
    /// # Panics
    /// When the server runs or the file has fewer bytes.
    pub fn truncate_aof_tail(&mut self, bytes: u64) -> u64 {
        assert!(!self.is_running(), "kill the server first: a running server appends after the cut");
        let file = fs::File::options().write(true).open(self.newest_increment());
        let file = file.expect("the newest increment exists");
        let length = file.metadata().expect("an open file has a length").len();
        let left = length.checked_sub(bytes).expect("the file has at least the bytes to cut");
        file.set_len(left).expect("the file of a dead server can be cut");
        left
    }

    /// Read from the manifest, whose lines for increments are `file NAME seq NUMBER type i`, the newest last.
    fn newest_increment(&self) -> PathBuf {
        let folder = self.daemon.server.data.join("appendonlydir");
        let manifest = fs::read_to_string(folder.join("appendonly.aof.manifest")).expect("AOF is on");
        let newest = manifest.lines().rfind(|line| line.ends_with("type i"));
        let name = newest.and_then(|line| line.split(' ').nth(1)).expect("the manifest has an increment");
        folder.join(name)
    }

    /// SIGSTOP: the server keeps its connections and answers nothing.
    pub fn pause(&mut self) {
        self.daemon.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.daemon.signal(Signal::CONT);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-rT").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
}

async fn connect(port: u16) -> Result<MultiplexedConnection, redis::RedisError> {
    let client = Client::open(("127.0.0.1", port))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// The answer of a server, or why there is none within a second.
pub(crate) async fn query(port: u16, words: &[&str]) -> Result<redis::Value, String> {
    let asking = async {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connect(port).await?).await
    };
    let answer: Result<redis::Value, redis::RedisError> =
        tokio::time::timeout(QUERY_TIME_MAX, asking).await.map_err(|_| "no answer in time".to_owned())?;
    answer.map_err(|error| error.to_string())
}
