//! One program that takes the place of `ingest-api`, `stream-worker` or `millrace` in a drill: the product's
//! libraries, with one deliberate bug around the stream or the store. `MILLRACE_MUTANT` names the bug;
//! without it, the program is correct. The first argument says which program it is.
//!
//! Its settings, its log and its signals are those of the program that it replaces. It must never be
//! installed.

mod mutant;
mod reader;
mod redis;
mod roles;
mod standalone;
mod store;
mod stream;
mod wrap;
mod writer;

use std::process::ExitCode;

use crate::mutant::Mutant;
use crate::roles::Failure;

#[tokio::main]
async fn main() -> ExitCode {
    let role = std::env::args().nth(1).unwrap_or_default();
    let mutant = match Mutant::chosen() {
        Ok(mutant) => mutant,
        Err(error) => {
            eprintln!("mutant: {error}");
            return ExitCode::from(2);
        }
    };
    let ended: Result<(), Failure> = match role.as_str() {
        "ingest-api" => roles::serve_api(mutant).await,
        "stream-worker" => roles::drain(mutant).await,
        "millrace" => standalone::serve(mutant).await,
        _ => {
            eprintln!("mutant: expected one argument: ingest-api, stream-worker or millrace");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutant: cannot start {role}: {error}");
            ExitCode::FAILURE
        }
    }
}
