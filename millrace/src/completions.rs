//! `millrace completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use crate::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Which shell.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell that is to complete
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(output: &Output, arguments: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "millrace", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.print(&script, &json!({ "shell": arguments.shell.to_string(), "script": script }))
}
