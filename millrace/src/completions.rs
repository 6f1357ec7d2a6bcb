//! `millrace completions`: scripts that complete commands in a shell.

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CompletionsArgs {
    /// Your shell
    shell: Shell,
}

/// Prints the script for `command`.
pub(crate) fn run(
    output: &Output,
    arguments: CompletionsArgs,
    mut command: clap::Command,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "millrace", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.print(&script, &json!({ "shell": arguments.shell.to_string(), "script": script }))
}
