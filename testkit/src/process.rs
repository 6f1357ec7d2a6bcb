//! Child processes that end with the test process.
//!
//! `setpriv --pdeathsig` makes the kernel kill a child when the *thread* that started it ends. The threads of
//! tests are short-lived, so one thread that lives as long as the process starts every child.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::eventually;

/// How long a process may take to end after it was asked to.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// Names with values, kept for the next start.
pub(crate) type Pairs = Vec<(String, String)>;

pub(crate) fn owned(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

type SpawnRequest = (Command, SyncSender<io::Result<Child>>);

/// Starts a command in the long-lived thread.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<SpawnRequest>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = sync_channel::<SpawnRequest>(1);
        let work = move || {
            for (mut command, reply) in inbox {
                // The requester waits for the reply, so sending cannot fail.
                drop(reply.send(command.spawn()));
            }
        };
        std::thread::Builder::new()
            .name("testkit-spawner".to_owned())
            .spawn(work)
            .expect("a thread can be started");
        requests
    });
    let (reply, child) = sync_channel(1);
    spawner.send((command, reply)).expect("the spawner thread never ends");
    child.recv().expect("the spawner thread replies to every request")
}

/// Finds a program in these folders, else on the path.
///
/// # Panics
/// With `install_hint` when the program is in none of them.
pub(crate) fn find_program(name: &str, folders: &[PathBuf], install_hint: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = folders.iter().cloned().chain(std::env::split_paths(&path));
    let found = candidates.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: {install_hint}"))
}

/// The folder of the build profile, such as `target/debug`. Cargo puts programs into it and tests into its
/// `deps`.
pub(crate) fn profile_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a process knows its executable");
    let folder = executable.parent().expect("an executable is in a folder");
    if folder.ends_with("deps") || folder.ends_with("examples") {
        return folder.parent().expect("deps is in the profile's folder").to_owned();
    }
    folder.to_owned()
}

/// A command that runs `program` and is killed when the test process ends.
pub(crate) fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A child process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: Command) -> Self {
        Self(spawn(command).unwrap_or_else(|error| panic!("cannot run setpriv: {error}; install util-linux")))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// The exit status, if the process has ended.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child can be waited for")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.exit().is_none()
    }

    /// Sends a signal. Does nothing when the process has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill_process(self.pid(), signal).expect("a child can be signalled");
        }
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let what = format!("process {} to end", self.0.id());
        eventually(END_DEADLINE, &what, async || self.exit()).await
    }

    /// SIGKILL; returns when the process has ended.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    fn kill_blocking(&mut self) {
        if self.is_running() {
            self.0.kill().expect("a child can be killed");
            self.0.wait().expect("a killed child can be waited for");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_blocking();
    }
}
