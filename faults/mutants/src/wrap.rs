//! Puts the bug around stream and store.

use std::sync::Arc;

use millrace_store::SharedStore;
use millrace_stream::SharedStream;
use tokio_postgres::Config;

use crate::mutant::Mutant;
use crate::redis::Redis;
use crate::store::MutantStore;
use crate::stream::MutantStream;

/// The servers that a bug may talk to directly; none when the installation is two files.
#[derive(Default)]
pub struct Direct {
    pub redis: Option<Arc<Redis>>,
    pub database: Option<Config>,
}

pub fn wrap(
    stream: SharedStream,
    store: SharedStore,
    mutant: Option<Mutant>,
    direct: Direct,
) -> (SharedStream, SharedStore) {
    let Some(mutant) = mutant else { return (stream, store) };
    let database = direct.database;
    let store = MutantStore { inner: store, mutant, stream: SharedStream::clone(&stream), database };
    (Arc::new(MutantStream::new(stream, mutant, direct.redis)), Arc::new(store))
}
