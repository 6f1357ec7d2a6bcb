//! A client in another language, run as its users run it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use testkit::ProgramOutput;
use tokio::process::Command;

/// A command that sends events to `MILLRACE_URL` with `MILLRACE_KEY`.
#[derive(Clone, Debug)]
pub struct Client {
    program: PathBuf,
    arguments: Vec<OsString>,
    signing_secret: Option<String>,
}

impl Client {
    pub fn curl() -> Self {
        installed("curl");
        Self::new(example("curl/send.sh"), [])
    }

    pub fn python(options: &[&str]) -> Self {
        let options = options.iter().map(OsString::from);
        Self::new(
            installed("python3"),
            [example("python/send.py").into_os_string()].into_iter().chain(options),
        )
    }

    pub fn node() -> Self {
        Self::new(installed("node"), [example("node/send.mjs").into_os_string()])
    }

    /// Builds the Rust example first; later calls find it built.
    pub async fn rust() -> Self {
        let folder = project().join("target/examples");
        let manifest = example("rust/Cargo.toml");
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--manifest-path"])
            .args([manifest.as_os_str(), "--target-dir".as_ref(), folder.as_os_str()])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("cargo can be run");
        assert!(
            output.status.success(),
            "examples/rust cannot be built: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self::new(folder.join("debug/send"), [])
    }

    /// A program that is installed on this machine, with the text of a script as last argument.
    pub fn script(program: &str, options: &[&str], text: &str) -> Self {
        let arguments = options.iter().copied().chain([text]).map(OsString::from);
        Self::new(installed(program), arguments)
    }

    fn new(program: PathBuf, arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self { program, arguments: arguments.into_iter().collect(), signing_secret: None }
    }

    /// The same with `MILLRACE_SECRET` in its environment.
    pub fn signing_with(self, secret: &str) -> Self {
        Self { signing_secret: Some(secret.to_owned()), ..self }
    }

    /// Runs it to its end, with nothing else in its environment than the address, the key and the secret.
    pub async fn run(&self, server: SocketAddr, key: &str) -> ProgramOutput {
        let output = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("there is a PATH"))
            .env("MILLRACE_URL", format!("http://{server}"))
            .env("MILLRACE_KEY", key)
            .envs(self.signing_secret.iter().map(|secret| ("MILLRACE_SECRET", secret)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", self.program.display()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ProgramOutput {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the project")
}

fn example(path: &str) -> PathBuf {
    let file = project().join("examples").join(path);
    assert!(file.is_file(), "{} is missing", file.display());
    file
}

/// Where a program is.
///
/// # Panics
/// When it is not installed: an example that was not run must not count as one that works.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("there is a PATH");
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed: run ./test, which installs it"))
}
