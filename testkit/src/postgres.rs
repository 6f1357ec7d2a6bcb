//! A real PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio_postgres::{Client, Config};

use crate::cluster;
use crate::daemon::{Daemon, Endpoint, Server, ServerOptions};
use crate::database::Database;
use crate::eventually::eventually;
use crate::process::{Pairs, owned};
use crate::process_tree::{children_of, is_alive, signal_process};
use crate::versions;

const KILL_DEADLINE: Duration = Duration::from_secs(120);
/// The database that every new cluster has.
const FIRST_DATABASE: &str = "postgres";

/// A durable PostgreSQL on a free port of 127.0.0.1. Its superuser is `postgres`, without a password; root
/// never runs it. Dropping it stops the server and removes its files.
#[derive(Debug)]
pub struct Postgres {
    daemon: Daemon<PostgresServer>,
    databases: AtomicU32,
}

#[derive(Debug)]
struct PostgresServer {
    data: PathBuf,
    variables: Pairs,
}

impl Server for PostgresServer {
    const NAME: &'static str = "postgres";
    const LOG: &'static str = "postgres.log";

    fn command(&self, endpoint: &Endpoint) -> Command {
        let mut command = cluster::command("postgres");
        let log = endpoint.open_log::<Self>();
        let log_copy = log.try_clone().expect("an open file can be cloned");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.arg("-D").arg(&self.data).stdin(Stdio::null()).stdout(log).stderr(log_copy);
        command
    }

    async fn answers(&self, endpoint: &Endpoint, _pid: i32) -> Result<(), String> {
        let database = Database::new(FIRST_DATABASE, endpoint.port);
        let query = async || {
            let client = database.try_connect().await?;
            let settings = "SELECT current_setting('data_directory'), current_setting('server_version')";
            let row = client.query_one(settings, &[]).await?;
            Ok::<(String, String), tokio_postgres::Error>((row.get(0), row.get(1)))
        };
        let (data, version) = query().await.map_err(|error| error.to_string())?;
        if Path::new(&data) != self.data {
            return Err(format!("another PostgreSQL, with the data directory {data}, answers"));
        }
        versions::check_postgres(&version);
        Ok(())
    }
}

impl Postgres {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with these settings of postgresql.conf, added to the usual ones.
    ///
    /// # Panics
    /// See [`Postgres::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_options(ServerOptions { settings, ..ServerOptions::default() }).await
    }

    /// # Panics
    /// See [`Postgres::start`].
    pub async fn start_options(options: ServerOptions<'_>) -> Self {
        let prepare = |endpoint: &Endpoint| {
            let folder = endpoint.folder.path();
            let data = options.folder.unwrap_or(folder).join("postgres-data");
            cluster::create(folder, &data, endpoint.port, options.settings);
            PostgresServer { data, variables: owned(options.variables) }
        };
        Self { daemon: Daemon::start(prepare).await, databases: AtomicU32::new(0) }
    }

    /// Starts a server in a data directory that `prepare` creates at the given path.
    ///
    /// # Panics
    /// See [`Postgres::start`].
    pub(crate) async fn start_on(prepare: impl Fn(&Endpoint, &Path)) -> Self {
        let prepare = |endpoint: &Endpoint| {
            let data = endpoint.folder.path().join("postgres-data");
            prepare(endpoint, &data);
            PostgresServer { data, variables: Pairs::new() }
        };
        Self { daemon: Daemon::start(prepare).await, databases: AtomicU32::new(0) }
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`, an empty database.
    pub fn url(&self) -> String {
        self.first_database().url()
    }

    /// The connection settings of the same database.
    pub fn config(&self) -> Config {
        self.first_database().config()
    }

    /// Opens a connection to the same database.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub async fn connect(&self) -> Client {
        self.first_database().connect().await
    }

    /// The port. It stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.daemon.port()
    }

    /// The process id of the postmaster, which is the parent of all other processes of the server.
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

    /// Creates an empty database, so that tests that share a server need not share tables.
    ///
    /// # Panics
    /// When the server does not create it.
    pub async fn create_database(&self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let statement = format!("CREATE DATABASE {name}");
        self.connect().await.batch_execute(&statement).await.expect("a database can be created");
        Database::new(name, self.port())
    }

    /// Creates a tablespace whose files are in `folder`, such as on a `Tmpfs`: a disk for tables
    /// only, which can be full while PostgreSQL can still write its WAL.
    ///
    /// # Panics
    /// When the server does not create it.
    pub async fn create_tablespace(&self, name: &str, folder: &Path) {
        let location = folder.join(name);
        std::fs::create_dir(&location).expect("the given folder is writable");
        cluster::give_to_server(&location);
        let statement = format!("CREATE TABLESPACE {name} LOCATION '{}'", location.display());
        self.connect().await.batch_execute(&statement).await.expect("a tablespace can be created");
    }

    /// SIGKILL of one session. PostgreSQL then ends all others and recovers, because the session may have
    /// left shared memory half written.
    ///
    /// # Panics
    /// When `pid` is not a session of this server.
    pub fn kill_backend(&self, pid: i32) {
        let session = Pid::from_raw(pid).filter(|pid| self.children().contains(pid));
        let session = session.unwrap_or_else(|| panic!("process {pid} is not a session of this server"));
        signal_process(session, Signal::KILL);
    }

    /// A fast shutdown: ends the sessions, writes everything to disk, then ends.
    pub async fn stop_fast(&mut self) {
        self.daemon.signal(Signal::INT);
        self.daemon.ended().await;
    }

    /// An immediate shutdown: ends the sessions and writes nothing. The next start recovers.
    pub async fn stop_immediate(&mut self) {
        self.daemon.signal(Signal::QUIT);
        self.daemon.ended().await;
    }

    /// SIGKILL of the postmaster and every session; returns when all have ended.
    ///
    /// # Panics
    /// When a process does not end.
    pub async fn kill(&mut self) {
        if !self.is_running() {
            return;
        }
        // Stopped first, so that it starts no child while its children are listed.
        self.daemon.signal(Signal::STOP);
        let children = self.children();
        self.daemon.kill().await;
        for child in &children {
            signal_process(*child, Signal::KILL);
        }
        let what = "the sessions of a killed PostgreSQL to end";
        eventually(KILL_DEADLINE, what, async || !children.iter().any(|child| is_alive(*child))).await;
    }

    /// Starts the server again on the same port and data; kills it first if it runs. Returns when it has
    /// recovered and accepts connections.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.try_restart().await, "postgres did not start again; its log:\n{}", self.log());
    }

    /// Like [`Postgres::restart`], but returns false when the server ended instead, as it does while its disk
    /// is full.
    pub async fn try_restart(&mut self) -> bool {
        self.kill().await;
        self.daemon.start_again().await
    }

    /// A fast shutdown and a start.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_fast(&mut self) {
        self.stop_fast().await;
        self.restart().await;
    }

    pub fn is_running(&mut self) -> bool {
        self.daemon.is_running()
    }

    /// SIGSTOP to every process of the server: connections stay open and get no answer.
    pub fn pause(&mut self) {
        self.daemon.signal(Signal::STOP);
        for child in self.children() {
            signal_process(child, Signal::STOP);
        }
    }

    /// SIGCONT to every process of the server.
    pub fn resume(&mut self) {
        for child in self.children() {
            signal_process(child, Signal::CONT);
        }
        self.daemon.signal(Signal::CONT);
    }

    fn first_database(&self) -> Database {
        Database::new(FIRST_DATABASE, self.port())
    }

    fn children(&self) -> Vec<Pid> {
        Pid::from_raw(self.pid()).map(children_of).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown also ends the sessions and frees the shared memory. A paused server has to be
        // resumed to handle it.
        self.daemon.signal(Signal::QUIT);
        self.resume();
        self.daemon.wait_blocking();
    }
}
