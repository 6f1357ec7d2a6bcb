//! Our own programs, as real processes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use crate::eventually;
use crate::server::{Process, mortal, profile_folder, spawn};

/// How long a program may take to say that it is ready. A debug build on a busy machine is slow.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A program of ours that runs until it is told to stop, or dropped. Its log is printed when the test panics.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Process,
    log: Log,
}

/// How to start a program.
#[derive(Clone, Copy, Default, Debug)]
pub struct Launch<'a> {
    /// Of another profile than the test's own, such as [`crate::drill_build`]'s.
    pub profile: Option<&'a str>,
    /// What stands behind its name.
    pub arguments: &'a [&'a str],
    /// Its environment.
    pub variables: &'a [(&'a str, &'a str)],
    /// What it may have of the machine.
    pub limits: ResourceLimits,
}

/// What a program may have of the machine; `None` is what we may have.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ResourceLimits {
    /// Files and sockets open at once.
    pub open_files: Option<u64>,
    /// Bytes of its address space.
    pub address_space_bytes: Option<u64>,
}

/// What a program that was waited for has left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramOutput {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Program {
    /// Starts `target/<profile>/<name>` with these environment variables and, but for the path, no others: a setting
    /// of the developer's own shell must not reach a test.
    ///
    /// # Panics
    /// When it is not built.
    pub fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        Self::launch(name, &Launch { variables, ..Launch::default() })
    }

    /// The same, special in more than its variables.
    ///
    /// # Panics
    /// When it is not built.
    pub fn launch(name: &str, launch: &Launch<'_>) -> Self {
        let mut process = Process::start(launch.command(name));
        let log = Log::default();
        log.follow(process.child().stdout.take().expect("standard output is piped"));
        log.follow(process.child().stderr.take().expect("standard error is piped"));
        Self { name: name.to_owned(), process, log }
    }

    /// Runs a program that ends by itself.
    ///
    /// # Panics
    /// When it is not built.
    pub async fn run(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> ProgramOutput {
        Self::run_to_end(name, &Launch { arguments, variables, ..Launch::default() }).await
    }

    /// The same, special in more than its arguments and variables.
    ///
    /// # Panics
    /// When it is not built.
    pub async fn run_to_end(name: &str, launch: &Launch<'_>) -> ProgramOutput {
        let child = spawn(launch.command(name)).expect("a program of ours can be run");
        let waiting = tokio::task::spawn_blocking(|| child.wait_with_output());
        let output = waiting.await.expect("waiting does not panic").expect("a child can be waited for");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ProgramOutput {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Everything it has written so far, line by line.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line with this text in it, and returns the line.
    ///
    /// # Panics
    /// When the program ends, or a minute passes, without it.
    pub async fn wait_for_line(&mut self, text: &str) -> String {
        let (name, log, process) = (&self.name, &self.log, &mut self.process);
        let what = format!("{name} to write {text:?}");
        let line = eventually(READY_DEADLINE, &what, async || {
            // The exit is looked at first: what was written before it is in the log or about to be.
            let exit = process.exit();
            match (log.line_with(text), exit) {
                (Some(line), _) => Ok(Ok(line)),
                (None, Some(status)) if log.is_complete() => Ok(Err(status)),
                (None, _) => Err(format!("its log:\n{}", log.text())),
            }
        })
        .await;
        line.unwrap_or_else(|status| panic!("{name} ended ({status}) before it wrote {text:?}"))
    }

    /// Where it serves: the address after `listening on http://`.
    ///
    /// # Panics
    /// See [`Program::wait_for_line`].
    pub async fn address(&mut self) -> SocketAddr {
        self.address_after("listening on http://").await
    }

    /// Where its metrics are: the address after `metrics on http://`.
    ///
    /// # Panics
    /// See [`Program::wait_for_line`].
    pub async fn metrics_address(&mut self) -> SocketAddr {
        self.address_after("metrics on http://").await
    }

    async fn address_after(&mut self, text: &str) -> SocketAddr {
        let line = self.wait_for_line(text).await;
        let (_, rest) = line.split_once(text).expect("the line was found by this text");
        let address =
            rest.split(|c: char| c == '/' || c == '"' || c.is_whitespace()).next().unwrap_or_default();
        address.parse().unwrap_or_else(|error| panic!("no address in {line:?}: {error}"))
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.exit().is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// SIGKILL; returns when it is dead.
    pub async fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }

    /// SIGTERM, the polite request to stop.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&mut self) {
        self.process.signal(Signal::INT);
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it has not after a minute.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// How many files and sockets it has open.
    ///
    /// # Panics
    /// When it does not run.
    pub fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.pid().as_raw_nonzero());
        std::fs::read_dir(folder).expect("a running process has a list of files").count()
    }

    /// Its resident memory, in bytes.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resident_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(status).expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory is in it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("in KiB");
        kib * 1_024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}---- end of log ----", self.name, self.log());
        }
    }
}

impl Launch<'_> {
    fn command(&self, name: &str) -> Command {
        let ResourceLimits { open_files, address_space_bytes } = self.limits;
        let mut command = mortal(Path::new("prlimit"));
        command.args(open_files.map(|files| format!("--nofile={files}")));
        command.args(address_space_bytes.map(|bytes| format!("--as={bytes}")));
        let own = profile_folder();
        let folder = self.profile.map_or_else(|| own.clone(), |profile| own.with_file_name(profile));
        command.arg(executable(&folder, name)).args(self.arguments).env_clear();
        for name in ["PATH", "HOME", "RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn executable(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    assert!(file.is_file(), "{} is not built: run `cargo build --workspace` first", file.display());
    file
}

/// What a program writes, collected by one thread for each of its outputs.
#[derive(Clone, Default, Debug)]
struct Log(Arc<Mutex<Collected>>);

#[derive(Default, Debug)]
struct Collected {
    text: String,
    outputs_open: usize,
}

impl Log {
    fn follow(&self, output: impl Read + Send + 'static) {
        self.with(|collected| collected.outputs_open += 1);
        let log = self.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                log.with(|collected| collected.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            log.with(|collected| collected.outputs_open -= 1);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Collected) -> T) -> T {
        work(&mut self.0.lock().expect("nobody panics with the log in hand"))
    }

    fn text(&self) -> String {
        self.with(|collected| collected.text.clone())
    }

    fn is_complete(&self) -> bool {
        self.with(|collected| collected.outputs_open == 0)
    }

    fn line_with(&self, text: &str) -> Option<String> {
        self.with(|collected| collected.text.lines().find(|line| line.contains(text)).map(str::to_owned))
    }
}
