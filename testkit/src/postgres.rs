//! A real PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, Config, NoTls};

use crate::cluster;
use crate::eventually;
use crate::folder::Folder;
use crate::server::{Pairs, Process, ServerOptions, free_port, owned};

const START_DEADLINE: Duration = Duration::from_secs(120);
/// Ports are chosen at random among free ones; losing this many races in a row is a sign of something else.
const START_ATTEMPTS: usize = 5;
/// What every cluster begins with.
const FIRST_DATABASE: &str = "postgres";

/// A PostgreSQL of one's own: durable, on a free port of 127.0.0.1, never run by root, stopped and removed when
/// dropped. Its superuser is `postgres`, without a password.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the server must be gone before its folder.
    process: Process,
    folder: Folder,
    data: PathBuf,
    variables: Pairs,
    port: u16,
    databases: AtomicU32,
}

/// One database of a [`Postgres`].
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    port: u16,
}

impl Postgres {
    /// Starts one and waits until it accepts connections.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with these settings of postgresql.conf on top of the usual ones.
    ///
    /// # Panics
    /// See [`Postgres::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_options(ServerOptions { settings, ..ServerOptions::default() }).await
    }

    /// Starts one that is special in more than its settings.
    ///
    /// # Panics
    /// See [`Postgres::start`].
    pub async fn start_options(options: ServerOptions<'_>) -> Self {
        for _ in 0..START_ATTEMPTS {
            let folder = Folder::create();
            let data = options.folder.unwrap_or(folder.path()).join("postgres-data");
            let (port, variables) = (free_port(), owned(options.variables));
            let is_new = cluster::create(folder.path(), &data, port, options.settings);
            let process = launch(folder.path(), &data, &variables);
            let mut server = Self { process, folder, data, variables, port, databases: AtomicU32::new(0) };
            if server.answers().await {
                return server;
            }
            let log = server.log();
            assert!(log.contains("Address already in use"), "postgres did not start:\n{log}");
            // Where it was told to lie, the next attempt must find room; what lay there before us stays.
            if is_new {
                std::fs::remove_dir_all(&server.data).expect("the data of a dead server can be removed");
            }
        }
        panic!("postgres found its port taken {START_ATTEMPTS} times in a row")
    }

    /// `postgres://postgres@127.0.0.1:port/postgres`, a database with nothing in it.
    pub fn url(&self) -> String {
        self.first_database().url()
    }

    /// How to connect to the same database.
    pub fn config(&self) -> Config {
        self.first_database().config()
    }

    /// A connection to the same database.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub async fn connect(&self) -> Client {
        self.first_database().connect().await
    }

    /// The port it listens on; the same one after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id; every other process of it is its child.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join(cluster::LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One more database with nothing in it: tests that share a server need not share tables.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn create_database(&self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let statement = format!("CREATE DATABASE {name}");
        self.connect().await.batch_execute(&statement).await.expect("a database can be created");
        Database { name, port: self.port }
    }

    /// A tablespace whose files lie in this folder, such as on a [`Tmpfs`](crate::Tmpfs): a disk for tables alone,
    /// which can be full while the log of transactions goes on.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn create_tablespace(&self, name: &str, folder: &Path) {
        let place = folder.join(name);
        std::fs::create_dir(&place).expect("a folder can be made where the test says");
        cluster::give_to_server(&place);
        let statement = format!("CREATE TABLESPACE {name} LOCATION '{}'", place.display());
        self.connect().await.batch_execute(&statement).await.expect("a tablespace can be created");
    }

    /// SIGKILL of one session. PostgreSQL then ends all others and recovers, for the one may have left shared memory
    /// half written.
    ///
    /// # Panics
    /// When this server has no such session.
    pub fn kill_backend(&self, pid: i32) {
        let session = Pid::from_raw(pid).filter(|pid| self.children().contains(pid));
        let session = session.unwrap_or_else(|| panic!("{pid} is no session of this server"));
        signal_stranger(session, Signal::KILL);
    }

    /// The operator's stop: sessions are ended, everything is written, then it ends.
    pub async fn stop_fast(&mut self) {
        self.process.signal(Signal::INT);
        self.process.ended().await;
    }

    /// The stop in need: sessions are ended, nothing is written, and the next start recovers.
    pub async fn stop_immediate(&mut self) {
        self.process.signal(Signal::QUIT);
        self.process.ended().await;
    }

    /// SIGKILL of the postmaster and of every session; returns when all are dead.
    ///
    /// # Panics
    /// When one does not die.
    pub async fn kill(&mut self) {
        if self.process.exit().is_some() {
            return;
        }
        // Stopped first, so that it starts no child while we look for them.
        self.process.signal(Signal::STOP);
        let children = self.children();
        self.process.signal(Signal::KILL);
        self.process.ended().await;
        for child in &children {
            signal_stranger(*child, Signal::KILL);
        }
        let what = "the sessions of a killed PostgreSQL to end";
        eventually(START_DEADLINE, what, async || !children.iter().any(|child| is_alive(*child))).await;
    }

    /// Starts it again, on the same port and the same data, killing it first if it runs; returns when it has
    /// recovered and accepts connections.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.try_restart().await, "postgres did not start again:\n{}", self.log());
    }

    /// The same; false when it ended instead, as it does while its disk is full.
    pub async fn try_restart(&mut self) -> bool {
        self.kill().await;
        self.process = launch(self.folder.path(), &self.data, &self.variables);
        self.answers().await
    }

    /// The operator's restart.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_fast(&mut self) {
        self.stop_fast().await;
        self.restart().await;
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.exit().is_none()
    }

    /// SIGSTOP to every process of it: connections stay open and answer nothing.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
        for child in self.children() {
            signal_stranger(child, Signal::STOP);
        }
    }

    /// SIGCONT to every process of it.
    pub fn resume(&mut self) {
        for child in self.children() {
            signal_stranger(child, Signal::CONT);
        }
        self.process.signal(Signal::CONT);
    }

    fn first_database(&self) -> Database {
        Database { name: FIRST_DATABASE.to_owned(), port: self.port }
    }

    fn children(&self) -> Vec<Pid> {
        children_of(self.process.pid())
    }

    /// Waits until it accepts connections; false when it has ended instead.
    async fn answers(&mut self) -> bool {
        let (database, process) = (self.first_database(), &mut self.process);
        let ours = self.data.clone();
        eventually(START_DEADLINE, "postgres to accept connections", async || {
            if process.exit().is_some() {
                return Ok(false);
            }
            answers_as(&database, &ours).await.map(|()| true)
        })
        .await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate stop, which also ends its sessions and frees its shared memory; a paused one is woken for it.
        self.process.signal(Signal::QUIT);
        self.resume();
        if self.process.exit().is_none() {
            self.process.child().wait().expect("a child can be waited for");
        }
    }
}

impl Database {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `postgres://postgres@127.0.0.1:port/name`
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// How to connect to it.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").dbname(&self.name);
        config
    }

    /// A connection to it.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("a running PostgreSQL accepts connections")
    }

    async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        // It ends with the client, or with the server, whose death is what many a test is about.
        tokio::spawn(connection);
        Ok(client)
    }
}

/// A stranger's server may have taken the port just before ours: its data lies elsewhere.
async fn answers_as(database: &Database, ours: &Path) -> Result<(), String> {
    let talk = async || {
        let client = database.try_connect().await?;
        Ok::<String, tokio_postgres::Error>(client.query_one("SHOW data_directory", &[]).await?.get(0))
    };
    let data = talk().await.map_err(|error| error.to_string())?;
    if Path::new(&data) == ours { Ok(()) } else { Err(format!("another PostgreSQL answers, of {data}")) }
}

fn launch(folder: &Path, data: &Path, variables: &[(String, String)]) -> Process {
    let mut command = cluster::command("postgres");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join(cluster::LOG))
        .expect("a log can be opened in our own folder");
    let log_too = log.try_clone().expect("an open file can be cloned");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.arg("-D").arg(data).stdin(Stdio::null()).stdout(log).stderr(log_too);
    Process::start(command)
}

/// The processes whose parent is this one.
fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_child = |folder: &PathBuf| stat_field(folder, 1) == Some(parent.as_raw_nonzero().to_string());
    let pid = |folder: PathBuf| folder.file_name()?.to_str()?.parse().ok().and_then(Pid::from_raw);
    processes.flatten().map(|entry| entry.path()).filter(is_child).filter_map(pid).collect()
}

/// A zombie is dead: whoever inherited it has only not looked yet.
fn is_alive(pid: Pid) -> bool {
    let state = stat_field(&PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero())), 0);
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// A field of /proc/PID/stat, counted from the process state, which follows the name in parentheses.
fn stat_field(folder: &Path, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(field).map(str::to_owned)
}

/// Signals a process that is not our child: it may have ended meanwhile.
fn signal_stranger(pid: Pid, signal: Signal) {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("process {} cannot be signalled: {error}", pid.as_raw_nonzero()),
    }
}
