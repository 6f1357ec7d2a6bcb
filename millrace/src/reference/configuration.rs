//! `docs/configuration.md`

use std::error::Error;

use clap::{Arg, Command, CommandFactory};

use super::text::{NOTICE, sentence, wrapped};

const INTRODUCTION: &str = "\
Each setting is an environment variable and a flag of the same name. A flag takes precedence over the variable. Variables of other \
programs are ignored, so all programs can share one environment. A variable that is empty, or holds only spaces, counts as not set.

A bad value ends the program before it opens a port, with exit code 2 and a message that names the variable, the value, and the values \
that would be right. The values of `REDIS_URL` and `DATABASE_URL` are never printed, because they may contain passwords.

Variables with `BYTES` in their name are in bytes, with `_MS` in milliseconds, and with `_DAYS` in days. All take whole numbers without a unit.

`RUST_LOG` sets the level of the log, such as `info` or `warn,ingest_api=debug`. The default is `info`, and `warn` for `millrace`. \
A word that is not a level ends the program, like every other bad value.

The `millrace` commands other than serving use only the addresses under Installation, and `millrace audit` also \
uses `STREAM_SHARDS`. [cli.md](cli.md) describes them.";

/// A setting, as the first program that reads it declares it.
struct Setting {
    arg: Arg,
    values: String,
    /// Each program that reads it, with its default there.
    readers: Vec<(&'static str, Option<String>)>,
}

pub(super) fn page() -> String {
    let settings = settings();
    let mut page = format!("{NOTICE}\n\n# Settings\n\n{}\n", wrapped(INTRODUCTION));
    let mut headings: Vec<&str> = settings.iter().map(Setting::heading).collect();
    headings.dedup();
    for heading in headings {
        page.push_str(&format!("\n## {heading}\n\n"));
        page.push_str(
            "| variable | flag | default | read by | meaning | values |\n|---|---|---|---|---|---|\n",
        );
        for setting in settings.iter().filter(|setting| setting.heading() == heading) {
            page.push_str(&setting.row());
        }
    }
    page
}

fn settings() -> Vec<Setting> {
    let programs = [
        ("ingest-api", ingest_api::config::Config::command()),
        ("stream-worker", stream_worker::config::Config::command()),
        ("millrace", crate::cli::command()),
    ];
    let mut settings: Vec<Setting> = Vec::new();
    for (program, command) in &programs {
        for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
            let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            let default = default.filter(|_| !arg.is_hide_default_value_set());
            match settings.iter_mut().find(|setting| setting.arg.get_env() == arg.get_env()) {
                Some(setting) => setting.readers.push((*program, default)),
                None => settings.push(Setting {
                    arg: arg.clone(),
                    values: values(command, arg),
                    readers: vec![(*program, default)],
                }),
            }
        }
    }
    let order = |setting: &Setting| setting.heading().to_owned();
    let mut headings: Vec<String> = settings.iter().map(order).collect();
    headings.dedup();
    settings.sort_by_key(|setting| headings.iter().position(|heading| *heading == order(setting)));
    settings
}

/// The values that are right, from the error about one that is wrong: no setting can be empty.
fn values(command: &Command, arg: &Arg) -> String {
    let words = arg.get_possible_values();
    if !words.is_empty() {
        return words.iter().map(|word| format!("`{}`", word.get_name())).collect::<Vec<_>>().join(", ");
    }
    let flag = format!("--{}=", arg.get_long().expect("each setting is a flag"));
    let error = command.clone().try_get_matches_from([command.get_name(), &flag]).expect_err(&flag);
    let reason = error.source().expect("a bad value has a reason").to_string();
    let expected = reason.strip_prefix("expected ").unwrap_or_else(|| panic!("{flag}: {reason}"));
    // What follows a colon and a space is about this value.
    expected.split(": ").next().unwrap_or(expected).to_owned()
}

impl Setting {
    fn heading(&self) -> &str {
        self.arg.get_help_heading().expect("each setting has a heading")
    }

    fn row(&self) -> String {
        let variable = self.arg.get_env().expect("each setting has a variable").to_string_lossy();
        let flag = self.arg.get_long().expect("each setting is a flag");
        let readers: Vec<_> = self.readers.iter().map(|(program, _)| *program).collect();
        format!(
            "| `{variable}` | `--{flag}` | {} | {} | {} | {} |\n",
            self.default(),
            readers.join(", "),
            sentence(&self.arg),
            self.values
        )
    }

    /// The default, and programs in which it is another one.
    fn default(&self) -> String {
        let shown = |default: &Option<String>| match default {
            Some(default) => format!("`{default}`"),
            None => "not set".to_owned(),
        };
        let (_, usual) = &self.readers[0];
        let others = self.readers.iter().filter(|(_, default)| default != usual);
        let others = others.map(|(program, default)| format!("; {program}: {}", shown(default)));
        format!("{}{}", shown(usual), others.collect::<String>())
    }
}
