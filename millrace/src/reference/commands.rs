//! `docs/cli.md`

use clap::{Arg, Command, CommandFactory};
use millrace_settings::Servers;

use super::text::{NOTICE, sentence, wrapped};

const INTRODUCTION: &str = "\
`millrace` without a command serves: it runs API and worker in one process. With a command it is the operator's command \
line. `ingest-api` and `stream-worker` are the two halves of the service as separate programs. `--help` after any command prints \
what this page says.";

const COMMON: &str = "\
Every command accepts these options. They may stand before or after the command.";

const SERVERS: &str = "\
When `REDIS_URL` and `DATABASE_URL` are set, commands use these servers. When neither is set, they use the files in `DATA_DIR`. \
Setting only one of them is an error. No command needs a running service, and every command can run next to one.";

const SERVING: &str = "\
These programs run until SIGTERM or SIGINT (Ctrl-C), and then finish the requests and transactions under way. \
[configuration.md](configuration.md) lists their settings. Exit codes: 0 stopped as asked; 1 failed while starting or running; \
2 wrong usage or settings.";

pub(super) fn page() -> String {
    let mut command = crate::cli::command();
    command.build();
    let after_help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (examples, exit_codes) = after_help.split_once("\n\n").expect("examples and exit codes");
    let mut page = format!("{NOTICE}\n\n# Commands\n\n{}\n", wrapped(INTRODUCTION));
    page.push_str(&format!("\n{}", fenced(examples)));
    page.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for line in exit_codes.lines().skip(1) {
        let (code, meaning) = line.trim().split_once("  ").expect("a code and its meaning");
        page.push_str(&format!("| {code} | {meaning} |\n"));
    }
    page.push_str(&format!("\n## Common options\n\n{}\n\n", wrapped(COMMON)));
    let is_clap_own = |arg: &&Arg| ["help", "version"].contains(&arg.get_id().as_str());
    for arg in command.get_arguments().filter(|arg| is_common(arg) && !is_clap_own(arg)) {
        page.push_str(&item(arg));
    }
    page.push_str(&format!("\n{}\n", wrapped(SERVERS)));
    page.push_str(&format!("\n## Serving\n\n{}\n\n", wrapped(SERVING)));
    let programs =
        [command.clone(), ingest_api::config::Config::command(), stream_worker::config::Config::command()];
    for program in programs {
        let about = program.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("- `{} [OPTIONS]`: {about}.\n", program.get_name()));
    }
    for subcommand in command.get_subcommands_mut() {
        add(subcommand, &mut page);
    }
    page
}

/// Adds the section of a command, or those of its subcommands.
fn add(command: &mut Command, page: &mut String) {
    if command.get_name() == "help" {
        return;
    }
    if command.has_subcommands() {
        for subcommand in command.get_subcommands_mut() {
            add(subcommand, page);
        }
        return;
    }
    let usage = command.render_usage().to_string();
    let name = command.get_bin_name().expect("a built command has a name");
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = wrapped(&about.map(ToString::to_string).unwrap_or_default());
    let (summary, details) = about.split_once("\n\n").unwrap_or((&about, ""));
    page.push_str(&format!("\n## {name}\n\n{summary}.\n"));
    if !details.is_empty() {
        page.push_str(&format!("\n{details}\n"));
    }
    page.push_str(&format!("\n```text\n{}\n```\n\n", usage.trim_start_matches("Usage: ")));
    for arg in command.get_arguments().filter(|arg| !is_common(arg) && !arg.is_hide_set()) {
        page.push_str(&item(arg));
    }
    let examples = command.get_after_help().unwrap_or_else(|| panic!("{name} has no example")).to_string();
    page.push_str(&format!("{}{}", if page.ends_with("\n\n") { "" } else { "\n" }, fenced(&examples)));
}

/// Whether the options of all commands include this one.
fn is_common(arg: &Arg) -> bool {
    let name = arg.get_id().as_str();
    ["json", "data_dir", "help", "version"].contains(&name) || Servers::ADDRESSES.contains(&name)
}

/// An item of a list of options.
fn item(arg: &Arg) -> String {
    let mut text = sentence(arg);
    let words = arg.get_possible_values();
    if arg.get_action().takes_values() && !words.is_empty() {
        let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.get_name())).collect();
        text.push_str(&format!(" One of {}.", words.join(", ")));
    }
    let default = arg.get_default_values().first().filter(|_| arg.get_action().takes_values());
    if let Some(default) = default.filter(|_| !arg.is_hide_default_value_set()) {
        text.push_str(&format!(" Default: `{}`.", default.to_string_lossy()));
    }
    let variable = arg.get_env().map(|variable| format!(" (`{}`)", variable.to_string_lossy()));
    format!("- `{arg}`{}: {text}\n", variable.unwrap_or_default())
}

/// Examples as a block of shell commands, whose explanations are comments.
fn fenced(examples: &str) -> String {
    let lines = examples.lines().skip(1).map(|line| match line.trim_start().split_once("  ") {
        Some((command, explanation)) => {
            let indented = format!("{command}  ");
            let width = line.trim_start().len() - explanation.trim_start().len();
            format!("{indented:<width$}# {}\n", explanation.trim_start())
        }
        None => format!("{}\n", line.trim_start()),
    });
    format!("```sh\n{}```\n", lines.collect::<String>())
}
