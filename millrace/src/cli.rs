//! The command line: every command, and the settings of the service that runs without one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use ingest_api::config::HttpSettings;
use millrace_settings::{ConfigError, Policy, Servers, check_log_levels, is_given, path};
use stream_worker::config::Settings;

use crate::admin_key::AdminKeyCommand;
use crate::audit::AuditArgs;
use crate::backend::Backend;
use crate::completions::CompletionsArgs;
use crate::event::EventCommand;
use crate::key::KeyCommand;
use crate::letters::LettersCommand;
use crate::limit::LimitCommand;
use crate::meter::MeterCommand;
use crate::migrate::MigrateArgs;
use crate::notifications::{self, NotificationsArgs};
use crate::plan::PlanCommand;
use crate::project::ProjectCommand;
use crate::rejections::{self, RejectionsArgs};
use crate::shards::ShardsCommand;
use crate::subject::SubjectCommand;
use crate::threshold::ThresholdCommand;
use crate::usage::{self, UsageArgs};

const AFTER_HELP: &str = "\
Examples:
  millrace                                      serve: everything in one process, on files in ./millrace-data
  millrace migrate                              bring the database schema up to date; safe to repeat
  millrace project create shop --plan pro       create a project and its first key
  millrace key rotate 7 --overlap 24h           replace key 7, which works for one more day
  millrace plan set pro --burst 5000            change a plan; API processes apply it within seconds
  millrace usage shop --chart                   this month, day by day
  millrace meter create shop calls --event api_call
                                                count the events of each customer
  millrace usage shop --meter calls --by subject
                                                what each customer has used this month
  millrace threshold set shop most --quota 80% --url https://example.com/hook
                                                send a webhook at 80% of the month's quota
  millrace rejections --project shop            what was refused in the last 24 hours, and why
  millrace dead-letters list                    events that could not be stored, and why
  millrace dead-letters redrive --since 2h      store those that can be stored now
  millrace audit                                check that every accepted event is accounted for
  millrace audit --quick --json                 the same for a program, without counting table rows

Exit codes:
  0  done; for audit: every accepted event is accounted for
  1  refused; for audit: it does not hold
  2  wrong usage or settings
  3  the database or Redis cannot be used (on files: the files); for audit: it could not be checked
  4  for subject erase and anonymize with --no-wait: not finished yet; repeat the command later";

/// The heading of the settings that say where the data is. Every command needs those.
const INSTALLATION: &str = "Installation";
const SERVE: &str = "Serve options, when there is no command";
/// Accepted by every command, and shown only where they are used.
const SERVE_GLOBALS: [&str; 5] =
    ["stream_shards", "backlog_events_max", "durability", "durability_replicas", "log_format"];
/// Admission and the lanes share one disk there, so that many small commits would delay admissions.
const PACE_ON_FILES: Duration = Duration::from_millis(10);

/// Event ingestion that stores every accepted event exactly once
///
/// Without a command it serves: API and worker in one process. When REDIS_URL and DATABASE_URL are set, the
/// service and every command use Redis and PostgreSQL; when neither is set, they use two files in DATA_DIR.
#[derive(Parser, Debug)]
#[command(name = "millrace", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder of the two files; used when REDIS_URL and DATABASE_URL are not set
    #[arg(long, env = "DATA_DIR", value_name = "FOLDER", default_value = "millrace-data", value_parser = path)]
    #[arg(global = true, help_heading = INSTALLATION)]
    data_dir: PathBuf,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    pub(crate) policy: Policy,
    #[command(flatten)]
    pub(crate) http: HttpSettings,
    #[command(flatten)]
    pub(crate) work: Settings,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Bring the database schema up to date
    ///
    /// Safe to repeat, and safe while programs are running. Run it before you start programs of a new
    /// version.
    #[command(after_help = "Examples:\n  millrace migrate\n  millrace migrate --json-columns json")]
    Migrate(MigrateArgs),
    /// Manage projects
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Manage API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Manage admin keys, with which programs manage projects over HTTP
    #[command(subcommand)]
    AdminKey(AdminKeyCommand),
    /// Manage plans, the limits of projects
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Manage meters, the figures of your customers
    #[command(subcommand)]
    Meter(MeterCommand),
    /// Manage thresholds, the values of quotas and meters that cause a notification
    #[command(subcommand)]
    Threshold(ThresholdCommand),
    /// Show which thresholds were reached, and how the notifications were delivered
    #[command(after_help = notifications::EXAMPLES)]
    Notifications(NotificationsArgs),
    /// Correct stored events
    #[command(subcommand)]
    Event(EventCommand),
    /// Erase, anonymize or export what is stored of a person
    #[command(subcommand)]
    Subject(SubjectCommand),
    /// Manage limits, how much customers may use of meters
    #[command(subcommand)]
    Limit(LimitCommand),
    /// Show the stored events that are billed, by project or over time, or the figures of a meter
    ///
    /// Times are UTC. Without a project, it prints one line for each project. With a project, it prints one
    /// line for each hour, day or month that has events; --chart also draws those without events.
    ///
    /// With --meter, it prints the figures of a meter: by window, or by subject and group for the whole
    /// period, or both. They are by event time, and the usage of a project is by receive time.
    #[command(after_help = usage::EXAMPLES)]
    Usage(UsageArgs),
    /// Show what was refused, by project and reason, and the last samples
    ///
    /// Counts events that answers refused, whole requests that were refused, accepted events that became dead
    /// letters, and duplicates with another payload, of all API processes and workers. The last few seconds
    /// may be missing.
    #[command(after_help = rejections::EXAMPLES)]
    Rejections(RejectionsArgs),
    /// Inspect and redrive dead letters, the events that could not be stored
    #[command(subcommand)]
    DeadLetters(LettersCommand),
    /// Check that every accepted event is accounted for
    ///
    /// Compares for each project: accepted = stored + duplicate + dead-lettered + pending, the usage counters
    /// with the ledger, the rows of the tables with the usage counters, and the quota with what was stored
    /// this month. Safe to run at any time. While events are moving, it checks bounds instead of equality.
    #[command(after_help = "Examples:\n  millrace audit\n  millrace audit --quick --json")]
    Audit(AuditArgs),
    /// Show or change the number of shards of the stream
    #[command(subcommand)]
    Shards(ShardsCommand),
    /// Print a script that completes these commands in your shell
    #[command(
        after_help = "Examples:\n  millrace completions bash > ~/.local/share/bash-completion/completions/millrace\n  \
                            millrace completions zsh > \"${fpath[1]}/_millrace\""
    )]
    Completions(CompletionsArgs),
}

/// Reads the command line and the environment. The first argument is the program's name.
///
/// # Errors
/// The first setting with a bad value, and settings that contradict each other.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<(Cli, Backend), ConfigError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = millrace_settings::matches(command(), arguments.clone()).or_else(|error| {
        // A command ignores variables that only the service uses, also those with bad values.
        let without_service = command().mut_args(|arg| match arg.get_help_heading() {
            Some(SERVE) if !arg.is_global_set() => arg.env(None::<&'static str>),
            _ => arg,
        });
        let matches = millrace_settings::matches(without_service, arguments);
        matches.ok().filter(|matches| matches.subcommand().is_some()).ok_or(error)
    })?;
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let backend = backend(&cli)?;
    if cli.command.is_none() {
        check_log_levels()?;
        cli.http.limits.check()?;
        if matches!(backend, Backend::Files(_)) {
            cli.policy.check_for_files()?;
        }
    }
    if matches!(backend, Backend::Files(_)) && !is_given(&matches, "transaction_pace") {
        cli.work.transaction_pace = PACE_ON_FILES;
    }
    if matches!(backend, Backend::Files(_)) && cli.work.standbys() > 0 {
        return Err(ConfigError {
            variable: "SETTLE_AFTER".to_owned(),
            value: Some("standby".to_owned()),
            reason: "files have no standbys; set SETTLE_AFTER=commit, or set REDIS_URL and DATABASE_URL"
                .to_owned(),
        });
    }
    Ok((cli, backend))
}

fn backend(cli: &Cli) -> Result<Backend, ConfigError> {
    let half = |given, missing: &str| ConfigError {
        variable: missing.to_owned(),
        value: None,
        reason: format!("it is required with {given}; set both, or neither to use files"),
    };
    let servers = &cli.servers;
    // PGHOST alone, which other programs use, does not turn an installation on files into another one.
    let names_postgres =
        servers.names_postgres() || (servers.names_redis() && std::env::var_os("PGHOST").is_some());
    match (servers.names_redis(), names_postgres) {
        (true, true) => {
            servers.check()?;
            Ok(Backend::Servers(Box::new(servers.clone())))
        }
        (false, false) => Ok(Backend::Files(cli.data_dir.clone())),
        (true, false) => Err(half("REDIS_URL", "DATABASE_URL")),
        (false, true) => Err(half("DATABASE_URL", "REDIS_URL")),
    }
}

/// The command line as clap has it, with each option shown only where it is used.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command().mut_args(|arg| {
        let is_for_servers = Servers::ADDRESSES.contains(&arg.get_id().as_str());
        let is_global = is_for_servers || SERVE_GLOBALS.contains(&arg.get_id().as_str());
        let arg = if is_global { arg.global(true) } else { arg };
        match arg.get_help_heading() {
            None | Some(INSTALLATION) => arg,
            Some(_) => arg.help_heading(SERVE),
        }
    });
    let globals: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    command.mut_subcommands(|subcommand| {
        let is_used = |arg: &Arg| match subcommand.get_name() {
            "completions" => arg.get_id() == "json",
            "audit" if arg.get_id() == "stream_shards" => true,
            _ => !SERVE_GLOBALS.contains(&arg.get_id().as_str()),
        };
        let unused: Vec<Arg> =
            globals.iter().filter(|arg| !is_used(arg)).map(|arg| arg.clone().hide(true)).collect();
        subcommand.args(unused)
    })
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use super::*;

    fn parse(line: &str) -> Result<(Cli, Backend), ConfigError> {
        read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn an_option_of_the_installation_may_stand_before_or_after_the_command() {
        for line in ["millrace --data-dir x audit --quick", "millrace audit --quick --data-dir x"] {
            let (_, backend) = parse(line).unwrap();
            assert!(matches!(backend, Backend::Files(folder) if folder.ends_with("x")), "{line}");
        }
        let servers = "--redis-url redis://r --database-url postgres://p/d --stream-shards 4";
        for line in [format!("millrace {servers} audit"), format!("millrace key list {servers}")] {
            let (_, backend) = parse(&line).unwrap();
            assert!(matches!(backend, Backend::Servers(servers) if servers.stream_shards == 4), "{line}");
        }
    }

    #[test]
    fn waiting_for_standbys_is_refused_on_files() {
        let refused = parse("millrace --data-dir x --settle-after standby").unwrap_err().to_string();
        assert!(refused.starts_with(r#"SETTLE_AFTER="standby": files have no standbys"#), "{refused}");
        parse("millrace --redis-url redis://r --database-url postgres://p/d --settle-after standby").unwrap();
    }

    #[test]
    fn small_transactions_are_paced_on_files_unless_a_pace_is_set() {
        let pace = |line: &str| parse(line).unwrap().0.work.transaction_pace.as_millis();
        assert_eq!(pace("millrace --data-dir x"), 10);
        assert_eq!(pace("millrace --transaction-pace-ms 0"), 0);
        assert_eq!(pace("millrace --redis-url redis://r --database-url postgres://p/d"), 0);
    }

    #[test]
    fn a_bad_number_of_a_command_is_refused_with_what_would_be_right() {
        let number_types = [
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<i64>(),
        ];
        let mut checked = 0;
        let mut commands = vec![(command(), Vec::new())];
        while let Some((command, path)) = commands.pop() {
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let parser = arg.get_value_parser();
                if !number_types.iter().any(|number| parser.type_id() == *number) {
                    continue;
                }
                let given = match arg.get_long() {
                    Some(long) => format!("--{long}=x"),
                    None => "x".to_owned(),
                };
                let line = path.iter().cloned().chain([given]);
                let refused =
                    super::command().try_get_matches_from(std::iter::once("millrace".to_owned()).chain(line));
                let refused = refused.expect_err("x is not a number").to_string();
                assert!(
                    refused.contains("expected a whole number from"),
                    "{path:?} {}: {refused}",
                    arg.get_id()
                );
                checked += 1;
            }
            for subcommand in command.get_subcommands() {
                let path = path.iter().cloned().chain([subcommand.get_name().to_owned()]).collect();
                commands.push((subcommand.clone(), path));
            }
        }
        assert!(checked >= 15, "{checked}");
    }

    #[test]
    fn replicas_cannot_be_demanded_of_files() {
        let refused = parse("millrace --data-dir x --durability replicated").unwrap_err().to_string();
        assert!(refused.starts_with(r#"DURABILITY="replicated": files have no replicas"#), "{refused}");
        parse("millrace --data-dir x --durability replicated usage").expect("no command acknowledges events");
        let servers = "--redis-url redis://r --database-url postgres://p/d";
        parse(&format!("millrace {servers} --durability replicated --durability-replicas 2")).unwrap();
    }

    #[test]
    fn one_server_without_the_other_is_refused() {
        let refused = parse("millrace --redis-url redis://r audit").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "DATABASE_URL is not set: it is required with REDIS_URL; set both, or neither to use files"
        );
    }

    #[test]
    fn the_help_of_a_command_shows_the_options_that_it_uses_and_no_others() {
        let mut command = command();
        command.build();
        let mut shown = |path: &[&str]| {
            let command =
                path.iter().fold(&mut command, |command, name| command.find_subcommand_mut(name).unwrap());
            let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
            visible.map(|arg| arg.get_id().to_string()).collect::<Vec<_>>()
        };
        let installation = [&["json", "data_dir"][..], &Servers::ADDRESSES].concat();
        for (path, own) in [
            (&["key", "rotate"][..], &["key_id", "overlap", "key"][..]),
            (&["migrate"], &["distribute", "json_columns"]),
            (&["audit"], &["quick", "mark_reviewed", "stream_shards"]),
        ] {
            let shown = shown(path);
            let expected = || own.iter().chain(&installation).chain(&["help"]);
            assert!(expected().all(|id| shown.iter().any(|shown| shown == id)), "{path:?}: {shown:?}");
            assert_eq!(shown.len(), expected().count(), "{path:?}: {shown:?}");
        }
    }
}
