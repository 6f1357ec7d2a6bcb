//! The data directory of a PostgreSQL server: created once by initdb and copied for every server.
//!
//! initdb takes 1.5 s on two cores, a copy a tenth of that. PostgreSQL refuses to run as root, so root runs
//! it as another user, who must own the files.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::folder::Folder;
use crate::process::{mortal, profile_folder, spawn};
use crate::versions::postgres_program;

/// The folder in which Debian installs the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Settings of every server. `fsync` and `synchronous_commit` are on by default and stay on.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("log_line_prefix", "%m [%p] %a "),
    ("log_lock_waits", "on"),
];

/// Creates the data directory `data` of a server whose socket and log are in `folder`. Existing data, left by
/// a stopped server, are kept and configured for the new port.
pub(crate) fn create(folder: &Path, data: &Path, port: u16, settings: &[(&str, &str)]) {
    if !data.join("PG_VERSION").exists() {
        copy_tree(&template(), data);
    }
    let mut text = format!("port = {port}\nunix_socket_directories = '{}'\n", folder.display());
    for (name, value) in SETTINGS.iter().chain(settings) {
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    fs::write(data.join("postgresql.auto.conf"), text).expect("a data directory is writable");
    give_to_server(folder);
    give_to_server(data);
}

/// Gives a folder and its contents to the user that PostgreSQL runs as.
pub(crate) fn give_to_server(folder: &Path) {
    if let Some(owner) = server_user() {
        give_tree(folder, &owner);
    }
}

/// A command that runs one of PostgreSQL's programs as a user that PostgreSQL accepts.
pub(crate) fn command(name: &str) -> Command {
    server_command(&postgres_program(name, &program_folders()))
}

/// The same for any program that refuses to run as root.
pub(crate) fn server_command(program: &Path) -> Command {
    let Some(user) = server_user() else { return mortal(program) };
    // A change of the user clears the death signal, so a second setpriv sets it after the change.
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    command.args(["setpriv", "--pdeathsig", "KILL"]).arg(program);
    // The other user may not be able to enter the current folder.
    command.current_dir("/");
    command
}

/// The uid of the unprivileged user that every Linux system has.
const OVERFLOW_UID: u32 = 65_534;

struct User {
    uid: u32,
    gid: u32,
}

/// The user as which root runs PostgreSQL. `None` when the test process does not run as root.
fn server_user() -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let find = |is_wanted: &dyn Fn(&str, u32) -> bool| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let mut numbers = fields.skip(1).map(str::parse);
            let (uid, gid) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            is_wanted(name, uid).then_some(User { uid, gid })
        })
    };
    let user = find(&|name, _| name == "postgres").or_else(|| find(&|_, uid| uid == OVERFLOW_UID));
    Some(user.expect("PostgreSQL refuses to run as root: create a user named `postgres`"))
}

/// The folders of Debian's versions, newest first.
fn program_folders() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir(DEBIAN) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// The directory to copy. The first test process creates it, in the build's folder.
fn template() -> PathBuf {
    let initdb = postgres_program("initdb", &program_folders());
    let version = Command::new(&initdb).arg("--version").output().expect("initdb can be run");
    let version =
        String::from_utf8_lossy(&version.stdout).trim().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let folder = profile_folder().with_file_name("testkit");
    fs::create_dir_all(&folder).expect("the build's folder is writable");
    let lock = File::create(folder.join(format!("{version}.lock"))).expect("the build's folder is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("the lock file can be locked");
    let template = folder.join(version);
    if !template.exists() {
        // Under another name until it is complete, so that a killed process leaves no incomplete template.
        let partial = template.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).expect("an incomplete template can be removed");
        }
        let folder = Folder::create();
        give_to_server(folder.path());
        let data = folder.path().join("data");
        run_initdb(&data);
        copy_tree(&data, &partial);
        fs::rename(&partial, &template).expect("a complete template can be renamed");
    }
    template
}

fn run_initdb(data: &Path) {
    let mut initdb = command("initdb");
    // The template needs no fsync: only copies of it run, and after a crash of the machine it is created
    // again.
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
    assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap_or_else(|error| panic!("cannot create {}: {error}", to.display()));
    // PostgreSQL refuses a data directory that other users can enter.
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))
        .expect("the creator of a folder may change its permissions");
    for entry in fs::read_dir(from).expect("a data directory can be read") {
        let entry = entry.expect("a data directory can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a directory entry has a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target)
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", target.display()));
        }
    }
}

fn give_tree(folder: &Path, owner: &User) {
    let metadata = fs::symlink_metadata(folder).expect("a file of the server has metadata");
    if (metadata.uid(), metadata.gid()) != (owner.uid, owner.gid) {
        chown(folder, Some(owner.uid), Some(owner.gid)).expect("root can change the owner of a file");
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(folder).expect("a data directory can be read") {
            give_tree(&entry.expect("a data directory can be read").path(), owner);
        }
    }
}
