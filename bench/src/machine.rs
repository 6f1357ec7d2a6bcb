//! The machine, its programs and their versions: without them no figure means anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use time::OffsetDateTime;

use crate::failure::Failure;
use crate::places;
use crate::subjects::{POSTGRES_SETTINGS, REDIS_SETTINGS};

const PROGRAMS: [&str; 3] = ["millrace", "ingest-api", "stream-worker"];

/// Builds the programs that are measured, as this one was built.
///
/// # Errors
/// What the compiler says.
pub fn build_programs() -> Result<(), Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--profile", &places::profile()?]);
    command.args(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    let status = command.current_dir(places::project()).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(Failure::new("the programs cannot be built")) }
}

/// What a reader must know to judge a figure.
pub fn describe() -> BTreeMap<String, String> {
    let temporary = std::env::temp_dir();
    let listed = |settings: &[(&str, &str)]| {
        settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    };
    let command: Vec<_> = std::env::args().skip(1).collect();
    let facts = [
        ("processor", processor()),
        ("memory", memory()),
        ("kernel", said("uname", &["-sr"])),
        ("file system", file_system(&temporary)),
        ("Redis", said("redis-server", &["--version"])),
        ("PostgreSQL", postgres_version()),
        ("PostgreSQL settings", listed(POSTGRES_SETTINGS)),
        ("Redis settings", listed(REDIS_SETTINGS)),
        ("Rust", said("rustc", &["--version"])),
        ("Python", said("python3", &["--version"])),
        (
            "Millrace",
            said("git", &["-C", &places::project().to_string_lossy(), "describe", "--always", "--dirty"]),
        ),
        ("profile", places::profile().unwrap_or_default()),
        ("command", format!("cargo run --release -p bench -- {}", command.join(" ")).trim().to_owned()),
        ("day", OffsetDateTime::now_utc().date().to_string()),
    ];
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect()
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name\t: ")).collect();
    format!("{} x {}", models.len(), models.first().unwrap_or(&"unknown"))
}

fn memory() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kib: u64 = total.and_then(|kib| kib.parse().ok()).unwrap_or(0);
    format!("{} GB", kib * 1_024 / 1_000_000_000)
}

/// The mount that a path lies on: the longest one that is a beginning of it.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with(place).then(|| (place.len(), format!("{kind} on {device}")))
    });
    mounts.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, words)| words)
}

/// Debian keeps the server's programs off the path.
fn postgres_version() -> String {
    let version = said("postgres", &["--version"]);
    if version == UNKNOWN { said("psql", &["--version"]) } else { version }
}

const UNKNOWN: &str = "unknown";

/// The first line that a program writes.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success());
    let words = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    words.and_then(|words| words.lines().next().map(str::to_owned)).unwrap_or_else(|| UNKNOWN.to_owned())
}
