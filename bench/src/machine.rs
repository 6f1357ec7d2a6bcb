//! The machine, the programs and their versions. Results can be judged only with these facts.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::process::{Command, Stdio};

use time::OffsetDateTime;

use crate::error::BenchError;
use crate::paths;
use crate::subjects::{POSTGRES_SETTINGS, REDIS_SETTINGS};

const PROGRAMS: [&str; 3] = ["millrace", "ingest-api", "stream-worker"];
const UNKNOWN: &str = "unknown";

/// Builds the programs to measure, with the profile that this program was built with.
///
/// # Errors
/// When the build fails. The compiler's output goes to standard error.
pub fn build_programs() -> Result<(), BenchError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--profile", &paths::build_profile()?]);
    command.args(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    let status = command.current_dir(paths::repository()).stdin(Stdio::null()).status()?;
    if status.success() {
        return Ok(());
    }
    Err(BenchError::new(
        "cannot build the programs to measure; see the compiler's output above, or build them yourself and pass --no-build",
    ))
}

/// Returns the facts about the machine and the run, by name. A fact that cannot be found is "unknown".
pub fn describe() -> BTreeMap<String, String> {
    let list = |settings: &[(&str, &str)]| {
        settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    };
    let repository = paths::repository().to_string_lossy();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let facts = [
        ("processor", processor()),
        ("memory", memory()),
        ("kernel", first_output_line("uname", &["-sr"])),
        ("file system", file_system(&std::env::temp_dir())),
        ("Redis", first_output_line("redis-server", &["--version"])),
        ("PostgreSQL", postgres_version()),
        ("PostgreSQL settings", list(POSTGRES_SETTINGS)),
        ("Redis settings", list(REDIS_SETTINGS)),
        ("Rust", first_output_line("rustc", &["--version"])),
        ("Python", first_output_line("python3", &["--version"])),
        ("Millrace", first_output_line("git", &["-C", &repository, "describe", "--always", "--dirty"])),
        ("programs", programs().unwrap_or_else(|| UNKNOWN.to_owned())),
        ("profile", paths::build_profile().unwrap_or_else(|_| UNKNOWN.to_owned())),
        ("command", format!("cargo run --release -p bench -- {}", arguments.join(" ")).trim().to_owned()),
        ("day", OffsetDateTime::now_utc().date().to_string()),
    ];
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect()
}

/// A hash of the programs that are measured, and of this one: it differs when their code differs.
fn programs() -> Option<String> {
    let this = std::env::current_exe().ok()?;
    let mut hasher = DefaultHasher::new();
    for program in PROGRAMS.iter().map(|program| this.with_file_name(program)).chain([this.clone()]) {
        hasher.write(&fs::read(program).ok()?);
    }
    Some(format!("{:016x}", hasher.finish()))
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name\t: ")).collect();
    format!("{} x {}", models.len(), models.first().unwrap_or(&UNKNOWN))
}

fn memory() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kib: u64 = total.and_then(|kib| kib.parse().ok()).unwrap_or(0);
    format!("{} GB", kib * 1_024 / 1_000_000_000)
}

/// The type and device of the mount that holds `path`: the mount point that is the longest prefix of it.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, mount_point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with(mount_point).then(|| (mount_point.len(), format!("{kind} on {device}")))
    });
    mounts
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| UNKNOWN.to_owned(), |(_, description)| description)
}

/// The version of `psql` where `postgres` is not on the path, as on Debian.
fn postgres_version() -> String {
    let version = first_output_line("postgres", &["--version"]);
    if version == UNKNOWN { first_output_line("psql", &["--version"]) } else { version }
}

fn first_output_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| UNKNOWN.to_owned())
}
