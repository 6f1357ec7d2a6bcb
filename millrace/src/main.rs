//! `millrace` without a command runs the whole service in one process. With a command it is the operator's
//! command line.
//!
//! What this program must never do: print a key more than once, or let a command touch the data path.
//! Commands use the stream and the store through the same traits as every other program.

mod admin_key;
mod audit;
mod audit_limits;
mod backend;
mod cli;
mod completions;
mod event;
mod failure;
mod find;
mod key;
mod letters;
mod limit;
mod meter;
mod migrate;
mod moment;
mod notifications;
mod operator;
mod output;
mod plan;
mod project;
#[cfg(test)]
mod reference;
mod rejections;
mod shards;
mod standalone;
mod subject;
mod terminal;
mod threshold;
mod usage;

use std::process::ExitCode;

use crate::backend::Backend;
use crate::cli::{Cli, Command};
use crate::failure::{Failure, Task};
use crate::limit::LimitCommand;
use crate::output::Output;

/// As in ingest-api, whose connections this process may serve.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let (cli, backend) = match cli::read(std::env::args_os()) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let task = match &cli.command {
        None => Task::Serve,
        Some(Command::Audit(_)) => Task::Audit,
        Some(_) => Task::Command,
    };
    match run(cli, &backend).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message(backend.hint()));
            failure.exit_code(task)
        }
    }
}

async fn run(cli: Cli, backend: &Backend) -> Result<(), Failure> {
    let output = Output::new(cli.json);
    let Some(command) = cli.command else {
        return standalone::run(backend, cli.policy, cli.http, cli.work).await;
    };
    match command {
        Command::Migrate(arguments) => migrate::run(&*backend.store().await?, &output, arguments).await,
        Command::Completions(arguments) => completions::run(&output, arguments, cli::command()),
        Command::Project(command) => project::run(&*backend.migrated_store().await?, &output, command).await,
        Command::Key(command) => key::run(&*backend.migrated_store().await?, &output, command).await,
        Command::AdminKey(command) => {
            admin_key::run(&*backend.migrated_store().await?, &output, command).await
        }
        Command::Plan(command) => plan::run(&*backend.migrated_store().await?, &output, command).await,
        Command::Meter(command) => meter::run(&*backend.migrated_store().await?, &output, command).await,
        Command::Threshold(command) => {
            threshold::run(&*backend.migrated_store().await?, &output, command).await
        }
        Command::Notifications(arguments) => {
            notifications::run(&*backend.migrated_store().await?, &output, arguments).await
        }
        Command::Event(command) => {
            let cancel_days = cli.http.limits.cancel_days;
            event::run(&*backend.migrated_store().await?, &output, command, cancel_days).await
        }
        Command::Subject(command) => subject::run(backend, &cli.policy, &output, command).await,
        Command::Limit(LimitCommand::Show { project, meter, subject }) => {
            let (stream, store) = (backend.stream(&cli.policy).await?, backend.migrated_store().await?);
            limit::show(&*store, &*stream, &output, (&project, &meter, &subject)).await
        }
        Command::Limit(command) => limit::run(&*backend.migrated_store().await?, &output, command).await,
        Command::Usage(arguments) => usage::run(&*backend.migrated_store().await?, &output, &arguments).await,
        Command::Rejections(arguments) => {
            rejections::run(&*backend.migrated_store().await?, &output, &arguments).await
        }
        Command::DeadLetters(command) => {
            letters::run(&*backend.migrated_store().await?, &output, command).await
        }
        Command::Shards(command) => shards::run(backend, &cli.policy, &output, command).await,
        Command::Audit(arguments) => {
            let (stream, store) = (backend.stream(&cli.policy).await?, backend.migrated_store().await?);
            audit::run(&*stream, &*store, &output, &arguments).await
        }
    }
}
