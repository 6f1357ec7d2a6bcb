//! Millrace's programs as real processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::eventually::eventually;
use crate::process::{Process, mortal, profile_folder, spawn};
use crate::program_log::ProgramLog;

/// How long a program may take to write an expected line. A debug build on a busy machine is slow.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A running program. Dropping it kills the process. When the test panics, the log is printed.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Process,
    log: ProgramLog,
}

/// How to start a program.
#[derive(Clone, Copy, Default, Debug)]
pub struct Launch<'a> {
    /// The Cargo profile of the program, such as that of `drill_build`. `None` is the profile of the test.
    pub profile: Option<&'a str>,
    /// The folder of the program, for one that Cargo has not built for this test.
    pub folder: Option<&'a Path>,
    pub arguments: &'a [&'a str],
    /// Environment variables.
    pub variables: &'a [(&'a str, &'a str)],
    pub limits: ResourceLimits,
}

/// Resource limits of a program. `None` inherits the limit of the test process.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ResourceLimits {
    /// Open files and sockets.
    pub open_files: Option<u64>,
    pub address_space_bytes: Option<u64>,
}

/// The exit code and output of a program that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramOutput {
    /// `None` when a signal ended the program.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Starts `target/PROFILE/NAME` with these environment variables. Of the test's own environment only a
    /// few variables, such as `PATH`, are inherited, so that settings of the developer's shell cannot change
    /// a test.
    ///
    /// # Panics
    /// When the program is not built.
    pub fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        Self::launch(name, &Launch { variables, ..Launch::default() })
    }

    /// # Panics
    /// When the program is not built.
    pub fn launch(name: &str, launch: &Launch<'_>) -> Self {
        let mut process = Process::start(launch.command(name));
        let log = ProgramLog::default();
        log.follow(process.child().stdout.take().expect("standard output is piped"));
        log.follow(process.child().stderr.take().expect("standard error is piped"));
        Self { name: name.to_owned(), process, log }
    }

    /// Starts a program and waits until it ends by itself.
    ///
    /// # Panics
    /// When the program is not built.
    pub async fn run(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> ProgramOutput {
        Self::run_to_end(name, &Launch { arguments, variables, ..Launch::default() }).await
    }

    /// See [`Program::run`].
    ///
    /// # Panics
    /// When the program is not built.
    pub async fn run_to_end(name: &str, launch: &Launch<'_>) -> ProgramOutput {
        let child = spawn(launch.command(name)).expect("setpriv can be run");
        let waiting = tokio::task::spawn_blocking(|| child.wait_with_output());
        let output = waiting.await.expect("waiting does not panic").expect("a child can be waited for");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ProgramOutput {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Everything that the program has written to standard output and standard error so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line that contains `text`, and returns the line.
    ///
    /// # Panics
    /// When the program ends, or a minute passes, without such a line.
    pub async fn wait_for_line(&mut self, text: &str) -> String {
        let (name, log, process) = (&self.name, &self.log, &mut self.process);
        let what = format!("{name} to write {text:?}");
        let line = eventually(READY_DEADLINE, &what, async || {
            // The exit is checked first: output from before the exit is then in the log or about to be added.
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

    /// The listening address, from the line `listening on http://`.
    ///
    /// # Panics
    /// See [`Program::wait_for_line`].
    pub async fn address(&mut self) -> SocketAddr {
        self.address_after("listening on http://").await
    }

    /// The address of the metrics, from the line `metrics on http://`.
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

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// SIGKILL; returns when the process has ended.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// SIGTERM, the request to stop.
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

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// When it has not ended after a minute.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// The number of open files and sockets.
    ///
    /// # Panics
    /// When the process does not run.
    pub fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.pid().as_raw_nonzero());
        std::fs::read_dir(folder).expect("a running process has a list of open files").count()
    }

    /// The resident memory, in bytes.
    ///
    /// # Panics
    /// When the process does not run.
    pub fn resident_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(status).expect("a running process has a status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("the status of a process contains VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number of KiB");
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
        let built = self.profile.map_or_else(|| own.clone(), |profile| own.with_file_name(profile));
        command.arg(executable(self.folder.unwrap_or(&built), name)).args(self.arguments).env_clear();
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
