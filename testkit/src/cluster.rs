//! The files of a PostgreSQL server: made once by initdb, copied for every server after that.
//!
//! initdb takes a second and a half of two cores, a copy a tenth of that. PostgreSQL refuses to run as root, so root
//! runs it as another user, who must own the files.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::folder::Folder;
use crate::server::{mortal, profile_folder, program, spawn};

/// The server's log, in its folder.
pub(crate) const LOG: &str = "postgres.log";
const INSTALL: &str = "install PostgreSQL 15 or newer (Debian: apt-get install postgresql)";
/// Where Debian keeps the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What every server begins with. `fsync` and `synchronous_commit` are on by default, and stay so.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("log_line_prefix", "%m [%p] %a "),
    ("log_lock_waits", "on"),
];

/// Makes the data of a new server, which keeps its socket and its log in `folder`; true when they were not there
/// already, left by a server that was stopped.
pub(crate) fn create(folder: &Path, data: &Path, port: u16, settings: &[(&str, &str)]) -> bool {
    let is_new = !data.join("PG_VERSION").exists();
    if is_new {
        copy_tree(&template(), data);
    }
    let mut text = format!("port = {port}\nunix_socket_directories = '{}'\n", folder.display());
    for (name, value) in SETTINGS.iter().chain(settings) {
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    fs::write(data.join("postgresql.auto.conf"), text).expect("a file can be written in our own folder");
    give_to_server(folder);
    give_to_server(data);
    is_new
}

/// Makes a folder and all in it belong to whom PostgreSQL runs as.
pub(crate) fn give_to_server(folder: &Path) {
    if let Some(owner) = server_user() {
        give_tree(folder, &owner);
    }
}

/// A command that runs one of PostgreSQL's programs as whom it may be run by.
pub(crate) fn command(name: &str) -> Command {
    let program = program(name, &program_folders(), INSTALL);
    let Some(user) = server_user() else { return mortal(&program) };
    // The inner setpriv asks to be killed with us after the user has changed, which would undo the request.
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    command.args(["setpriv", "--pdeathsig", "KILL"]).arg(program);
    // Our own working folder may be one that the other user cannot enter.
    command.current_dir("/");
    command
}

struct User {
    uid: u32,
    gid: u32,
}

/// Whom root runs PostgreSQL as; nobody else needs to change who they are.
fn server_user() -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(User { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? })
    };
    let user = find("postgres").or_else(|| find("nobody"));
    Some(user.expect("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`"))
}

/// The newest of Debian's versions.
fn program_folders() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir(DEBIAN) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// The folder that is copied; made by whichever test process comes first, in the build's own folder.
fn template() -> PathBuf {
    let initdb = program("initdb", &program_folders(), INSTALL);
    let version = Command::new(&initdb).arg("--version").output().expect("initdb can be run");
    let version =
        String::from_utf8_lossy(&version.stdout).trim().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let place = profile_folder().with_file_name("testkit");
    fs::create_dir_all(&place).expect("a folder can be made in the build's");
    let lock = File::create(place.join(format!("{version}.lock")))
        .expect("a file can be made in the build's folder");
    flock(&lock, FlockOperation::LockExclusive).expect("a file of ours can be locked");
    let template = place.join(version);
    if !template.exists() {
        // Under another name until it is whole, so that one who dies half-way leaves nothing that looks whole.
        let half = template.with_extension("half");
        if half.exists() {
            fs::remove_dir_all(&half).expect("a folder of ours can be removed");
        }
        let folder = Folder::create();
        give_to_server(folder.path());
        let data = folder.path().join("data");
        run_initdb(&data);
        copy_tree(&data, &half);
        fs::rename(&half, &template).expect("a folder of ours can be renamed");
    }
    template
}

fn run_initdb(data: &Path) {
    let mut initdb = command("initdb");
    // Not synced: a copy is what runs, and a machine that crashes has no tests to go on with.
    initdb.args([
        "--auth=trust",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "-D",
    ]);
    initdb.arg(data).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn(initdb).and_then(std::process::Child::wait_with_output).expect("initdb can be run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "initdb failed: {complaint}");
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap_or_else(|error| panic!("{} cannot be made: {error}", to.display()));
    // PostgreSQL refuses a folder that others can enter.
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("a new folder is ours");
    for entry in fs::read_dir(from).expect("a folder of ours can be read") {
        let entry = entry.expect("a folder of ours can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file of ours has a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
        }
    }
}

fn give_tree(folder: &Path, owner: &User) {
    let metadata = fs::symlink_metadata(folder).expect("a file of ours can be looked at");
    if (metadata.uid(), metadata.gid()) != (owner.uid, owner.gid) {
        chown(folder, Some(owner.uid), Some(owner.gid)).expect("root can give files away");
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(folder).expect("a folder of ours can be read") {
            give_tree(&entry.expect("a folder of ours can be read").path(), owner);
        }
    }
}
