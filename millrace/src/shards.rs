//! `millrace shards`: shows and changes the number of shards of the stream.

use clap::Subcommand;
use millrace_reconcile::shards::{self, ShardsError};
use millrace_settings::Policy;
use serde_json::json;

use crate::backend::Backend;
use crate::failure::Failure;
use crate::output::{Output, counted};

#[derive(Subcommand, Debug)]
pub(crate) enum ShardsCommand {
    /// Show how many shards the installation has
    #[command(after_help = "Example:\n  millrace shards show")]
    Show,
    /// Change the number of shards, while no event waits in the stream
    ///
    /// Stop every ingest-api, let the workers store what is in the stream, and run this command. Then start
    /// all programs with STREAM_SHARDS set to the new number. Programs that still run with the old number
    /// refuse to serve. Every counter is rebuilt from the ledger, so quotas and the audit are the same
    /// afterwards; the rate limits begin again.
    #[command(after_help = "Example:\n  millrace shards set 4")]
    Set {
        /// The new number of shards
        #[arg(value_name = "SHARDS", value_parser = millrace_settings::number(1..=256_u16))]
        shards: u16,
    },
}

pub(crate) async fn run(
    backend: &Backend,
    policy: &Policy,
    output: &Output,
    command: ShardsCommand,
) -> Result<(), Failure> {
    let store = backend.migrated_store().await?;
    let recorded = store.shards_recorded().await?;
    let wanted = match command {
        ShardsCommand::Show => {
            let text = match recorded {
                0 => {
                    "This installation has not served yet: the first start records STREAM_SHARDS.".to_owned()
                }
                recorded => format!("This installation has {}.", counted(recorded.into(), "shard")),
            };
            return output.print(&text, &json!({ "shards": recorded }));
        }
        ShardsCommand::Set { shards } => shards,
    };
    let Some(backend) = backend.with_shards(recorded.max(1)) else {
        return Err(Failure::Refused(
            "an installation on files has one shard; set REDIS_URL and DATABASE_URL to change that of servers".to_owned(),
        ));
    };
    if recorded == 0 {
        return Err(Failure::Refused(
            "this installation has not served yet: start its programs with the STREAM_SHARDS that you want"
                .to_owned(),
        ));
    }
    if recorded != wanted {
        shards::change(&*backend.stream(policy).await?, &*store, wanted).await.map_err(failure)?;
    }
    let text = format!(
        "This installation has {}. Start every program with STREAM_SHARDS={wanted}.",
        counted(wanted.into(), "shard")
    );
    output.print(&text, &json!({ "shards": wanted, "before": recorded }))
}

fn failure(error: ShardsError) -> Failure {
    match error {
        ShardsError::Stream(error) => error.into(),
        ShardsError::Store(error) => error.into(),
        refused @ (ShardsError::Waiting { .. } | ShardsError::Conflict) => {
            Failure::Refused(refused.to_string())
        }
    }
}
