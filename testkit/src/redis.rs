//! A real redis-server.

use std::fs;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use rustix::process::Signal;

use crate::eventually;
use crate::folder::Folder;
use crate::server::{Pairs, Process, ServerOptions, free_port, mortal, owned, program};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Ports are chosen at random among free ones; losing this many races in a row is a sign of something else.
const START_ATTEMPTS: usize = 5;
const LOG: &str = "redis.log";
const INSTALL: &str = "install Redis 6.2 or newer (Debian: apt-get install redis-server)";

/// What "acknowledged means on disk" needs, and what tests need besides.
const SETTINGS: &[(&str, &str)] = &[
    ("bind", "127.0.0.1"),
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
    ("maxmemory-policy", "noeviction"),
    ("save", ""),
    ("daemonize", "no"),
];

/// A Redis of one's own: strictly durable, on a free port of 127.0.0.1, stopped and removed when dropped.
#[derive(Debug)]
pub struct Redis {
    // Dropped in this order: the server must be gone before its folder.
    process: Process,
    folder: Folder,
    launch: Launch,
}

/// What a server is started with, every time.
#[derive(Clone, Debug)]
struct Launch {
    port: u16,
    log: PathBuf,
    data: PathBuf,
    settings: Pairs,
    variables: Pairs,
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
        Self::start_options(ServerOptions { settings, ..ServerOptions::default() }).await
    }

    /// Starts one that is special in more than its settings.
    ///
    /// # Panics
    /// See [`Redis::start`].
    pub async fn start_options(options: ServerOptions<'_>) -> Self {
        for _ in 0..START_ATTEMPTS {
            let folder = Folder::create();
            let launch = Launch {
                port: free_port(),
                log: folder.path().join(LOG),
                data: options.folder.unwrap_or(folder.path()).join("redis-data"),
                settings: owned(options.settings),
                variables: owned(options.variables),
            };
            let mut server = Self { process: launch.start(), folder, launch };
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
        format!("redis://127.0.0.1:{}/0", self.launch.port)
    }

    /// The port it listens on; the same one after a restart.
    pub fn port(&self) -> u16 {
        self.launch.port
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.launch.log).unwrap_or_default()
    }

    /// A connection whose calls may take as long as they like.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub async fn connect(&self) -> MultiplexedConnection {
        connect(self.launch.port).await.expect("a running Redis accepts connections")
    }

    /// SIGKILL; returns when it is dead.
    pub async fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }

    /// Whether it has not ended. A Redis that cannot make durable what it was asked to ends by itself.
    pub fn is_running(&mut self) -> bool {
        self.process.exit().is_none()
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it has not after a minute.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Starts it again, on the same port and the same data, killing it first if it runs; returns when it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.try_restart().await, "redis-server did not start again:\n{}", self.log());
    }

    /// The same; false when it ended instead, as it does while its disk is full.
    pub async fn try_restart(&mut self) -> bool {
        self.kill().await;
        self.process = self.launch.start();
        self.answers().await
    }

    /// Starts it again with these settings instead of those it had.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_with(&mut self, settings: &[(&str, &str)]) {
        self.launch.settings = owned(settings);
        self.restart().await;
    }

    /// Kills it and starts it again with nothing in it: a Redis that has lost its memory.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn wipe_and_restart(&mut self) {
        self.kill().await;
        fs::remove_dir_all(&self.launch.data).expect("the folder of a dead server can be removed");
        self.restart().await;
    }

    /// Cuts the last bytes off the file that a dead server appended to last, as a crash of the machine might. Returns
    /// how many bytes are left.
    ///
    /// # Panics
    /// When the server runs, or the file is shorter.
    pub fn truncate_aof_tail(&mut self, bytes: u64) -> u64 {
        assert!(!self.is_running(), "kill the server first: it would append behind the cut");
        let file = fs::File::options().write(true).open(self.newest_increment());
        let file = file.expect("the newest increment is there");
        let length = file.metadata().expect("an open file has a length").len();
        let left = length.checked_sub(bytes).expect("no more can be cut than there is");
        file.set_len(left).expect("a file of a dead server can be cut");
        left
    }

    /// By the manifest, whose lines are `file NAME seq NUMBER type i` for increments, the newest last.
    fn newest_increment(&self) -> PathBuf {
        let folder = self.launch.data.join("appendonlydir");
        let manifest = fs::read_to_string(folder.join("appendonly.aof.manifest")).expect("AOF is on");
        let newest = manifest.lines().rfind(|line| line.ends_with("type i"));
        let name = newest.and_then(|line| line.split(' ').nth(1)).expect("there is always an increment");
        folder.join(name)
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
        let (port, process) = (self.launch.port, &mut self.process);
        eventually(START_DEADLINE, "redis-server to answer PING", async || {
            if process.exit().is_some() {
                return Ok(false);
            }
            answers_as(port, process.pid().as_raw_nonzero().get()).await.map(|()| true)
        })
        .await
    }
}

impl Launch {
    fn start(&self) -> Process {
        fs::create_dir_all(&self.data).expect("a folder can be made for the data");
        let mut command = mortal(&program("redis-server", &[], INSTALL));
        command.args(["--port", &self.port.to_string(), "--dir"]).arg(&self.data);
        command.arg("--logfile").arg(&self.log);
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in SETTINGS.iter().copied().chain(settings) {
            command.arg(format!("--{name}")).arg(value);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::start(command)
    }
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
