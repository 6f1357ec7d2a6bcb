//! Processes that cannot outlive us, and the ports they listen on.
//!
//! `setpriv --pdeathsig` makes the kernel kill a child when the *thread* that started it ends. Tests run in threads
//! that come and go, so every child is started by one thread that stays as long as the process.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// How long a process may take to end, or to stop answering, once it was told to.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// Ports we choose from. They lie below the range from which systems take the ports of outgoing connections, so that
/// none is lost to a passing client between a server's death and its restart.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How to start a [`Redis`](crate::Redis) or a [`Postgres`](crate::Postgres).
#[derive(Clone, Copy, Default, Debug)]
pub struct ServerOptions<'a> {
    /// Settings of its configuration file, on top of the usual ones.
    pub settings: &'a [(&'a str, &'a str)],
    /// Environment variables, such as [`Shim::variables`](crate::Shim::variables).
    pub variables: &'a [(&'a str, &'a str)],
    /// Where its data shall lie instead of in its own temporary folder, such as on a [`Tmpfs`](crate::Tmpfs). Its log
    /// does not: a server whose disk is full must be able to say so. Data of a PostgreSQL that lie there already are used.
    pub folder: Option<&'a Path>,
}

/// Names with values, kept for the next start.
pub(crate) type Pairs = Vec<(String, String)>;

pub(crate) fn owned(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts a command in the thread that stays.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<SyncSender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(1);
        let work = move || {
            for (mut command, answer) in inbox {
                // The asker waits for this answer; if it is gone, its child is killed by dropping nothing more.
                drop(answer.send(command.spawn()));
            }
        };
        std::thread::Builder::new()
            .name("testkit-keeper".to_owned())
            .spawn(work)
            .expect("a thread can be started");
        orders
    });
    let (answer, child) = sync_channel(1);
    keeper.send((command, answer)).expect("the keeper never ends");
    child.recv().expect("the keeper answers every order")
}

/// Where a program is: in one of these folders, else on the path.
///
/// # Panics
/// With `what_to_install` when it is nowhere.
pub(crate) fn program(name: &str, folders: &[PathBuf], what_to_install: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = folders.iter().cloned().chain(std::env::split_paths(&path));
    let found = places.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not on this machine: {what_to_install}"))
}

/// `target/debug`, or whatever the build was told to use: where cargo puts our programs, and in `deps`, our tests.
pub(crate) fn profile_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a process knows its executable");
    let folder = executable.parent().expect("an executable lies in a folder");
    if folder.ends_with("deps") || folder.ends_with("examples") {
        return folder.parent().expect("deps lies in the profile's folder").to_owned();
    }
    folder.to_owned()
}

/// A command that runs `program` and is killed when we die.
pub(crate) fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A port that nobody listens on now. Whoever takes it must be ready to find it taken and to ask again.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(PORTS);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A child process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: Command) -> Self {
        Self(spawn(command).unwrap_or_else(|error| panic!("setpriv cannot run: {error}; install util-linux")))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// The exit status, if it has ended.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal; one to a process that has ended is lost, as signals are.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exit().is_none() {
            kill_process(self.pid(), signal).expect("a child can be signalled");
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let what = format!("process {} to end", self.0.id());
        eventually(END_DEADLINE, &what, async || self.exit()).await
    }

    pub(crate) fn kill_now(&mut self) {
        if self.exit().is_none() {
            self.0.kill().expect("a child can be killed");
            self.0.wait().expect("a killed child can be waited for");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_now();
    }
}
