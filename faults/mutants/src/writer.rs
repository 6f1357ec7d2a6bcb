//! The writer of a lane with a bug around it.

use async_trait::async_trait;
use millrace_event::{EntryId, Epoch, Outcome};
use millrace_store::{RequestCharges, RequestRefunds, WriteError, WriteOutcome, WriteRequest, Writer};
use millrace_stream::{SettledBatch, Settlement, SharedStream};
use tokio_postgres::{Client, Config, NoTls, Row};

/// Settles entries before it stores them.
pub struct EarlySettler {
    pub inner: Box<dyn Writer>,
    pub stream: SharedStream,
}

#[async_trait]
impl Writer for EarlySettler {
    fn require_epoch(&mut self, shard: u16, epoch: Epoch) {
        self.inner.require_epoch(shard, epoch);
    }

    async fn write_charged(
        &mut self,
        requests: &[WriteRequest],
        charges: &RequestCharges,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds), WriteError> {
        let settlements: Vec<_> =
            requests.chunk_by(|one, next| one.entry == next.entry).map(hoped_settlement).collect();
        if let Some(first) = requests.first() {
            self.stream.settle(first.shard, &settlements).await.map_err(environment)?;
        }
        self.inner.write_charged(requests, charges).await
    }
}

/// As if every event of an entry were stored. The packed size is not known here; the stream only adds it up.
fn hoped_settlement(requests: &[WriteRequest]) -> Settlement {
    let batch = |request: &WriteRequest| {
        let WriteRequest { batch_id, project, count, .. } = *request;
        let outcome = Outcome { stored: count, ..Outcome::default() };
        SettledBatch { batch_id, project, count, outcome }
    };
    let batches = requests.iter().map(batch).collect();
    Settlement { id: requests[0].entry, bytes: 0, batches, refunds: Vec::new() }
}

/// Recognizes an entry by its stream id alone.
pub struct IdRecognizer {
    inner: Box<dyn Writer>,
    database: Client,
}

const BY_STREAM_ID: &str = "
    SELECT stored - redriven, duplicate, dead + redriven, conflict
      FROM batches
     WHERE received_at = timestamptz 'epoch' + $1::bigint * interval '1 millisecond' AND entry_seq = $2
     LIMIT 1";

impl IdRecognizer {
    pub async fn open(inner: Box<dyn Writer>, database: &Config) -> Result<Self, WriteError> {
        let (client, connection) = database.connect(NoTls).await.map_err(environment)?;
        tokio::spawn(connection);
        Ok(Self { inner, database: client })
    }
}

async fn outcome_of(entry: EntryId, database: &Client) -> Result<Option<Outcome>, WriteError> {
    let (ms, seq) = (entry.ms.cast_signed(), entry.seq.cast_signed());
    let row = database.query_opt(BY_STREAM_ID, &[&ms, &seq]).await.map_err(environment)?;
    Ok(row.as_ref().map(outcome))
}

fn outcome(row: &Row) -> Outcome {
    let events = |at: usize| u32::try_from(row.get::<_, i64>(at)).unwrap_or_default();
    Outcome { stored: events(0), duplicate: events(1), dead: events(2), conflict: events(3) }
}

#[async_trait]
impl Writer for IdRecognizer {
    fn require_epoch(&mut self, shard: u16, epoch: Epoch) {
        self.inner.require_epoch(shard, epoch);
    }

    /// No drill with this mutant has limits of customers.
    async fn write_charged(
        &mut self,
        requests: &[WriteRequest],
        _: &RequestCharges,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds), WriteError> {
        let mut outcomes = Vec::new();
        let mut unknown = Vec::new();
        for request in requests {
            let outcome = outcome_of(request.entry, &self.database).await?;
            if outcome.is_none() {
                unknown.push(request.clone());
            }
            outcomes.push(outcome.map(|outcome| WriteOutcome { outcome, redelivered: true }));
        }
        let mut written =
            if unknown.is_empty() { Vec::new() } else { self.inner.write(&unknown).await? }.into_iter();
        let filled = outcomes.into_iter().map(|known| known.or_else(|| written.next()));
        let filled = filled.map(|outcome| outcome.expect("a writer returns an outcome for each request"));
        Ok((filled.collect(), RequestRefunds::new()))
    }
}

/// Commits what was read under any epoch.
pub struct EpochIgnorer {
    pub inner: Box<dyn Writer>,
}

#[async_trait]
impl Writer for EpochIgnorer {
    fn require_epoch(&mut self, _: u16, _: Epoch) {}

    async fn write_charged(
        &mut self,
        requests: &[WriteRequest],
        charges: &RequestCharges,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds), WriteError> {
        self.inner.write_charged(requests, charges).await
    }
}

/// Gives nothing back to limits for entries that are in the ledger.
pub struct RefundForgetter {
    pub inner: Box<dyn Writer>,
}

#[async_trait]
impl Writer for RefundForgetter {
    fn require_epoch(&mut self, shard: u16, epoch: Epoch) {
        self.inner.require_epoch(shard, epoch);
    }

    async fn write_charged(
        &mut self,
        requests: &[WriteRequest],
        charges: &RequestCharges,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds), WriteError> {
        let (outcomes, mut refunds) = self.inner.write_charged(requests, charges).await?;
        refunds.retain(|index, _| !outcomes[*index].redelivered);
        Ok((outcomes, refunds))
    }
}

fn environment(error: impl std::error::Error) -> WriteError {
    WriteError::Environment { sqlstate: "connection".to_owned(), message: error.to_string() }
}
