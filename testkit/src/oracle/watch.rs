//! Reads the metered usage during the faults: it must never decrease (I12).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::evidence::{Evidence, Files, files, servers};
use super::findings::{Invariant, Violation};

type Metered = Vec<(i64, i64)>;

/// Pause between two readings.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long one reading may take. A fault may lock the table.
const READ_DEADLINE: Duration = Duration::from_secs(3);

const NO_PANIC: &str = "no thread panics while it holds the readings";

/// The location of the metered usage.
#[derive(Clone, Debug)]
pub enum Meters {
    Postgres(Box<Config>),
    /// In the data directory of the embedded backend.
    Files(Files),
}

/// Reads the metered usage every 250 ms until it is dropped. It waits while the database does not answer.
#[derive(Debug)]
pub struct Watch {
    readings: Arc<Mutex<Readings>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Default, Debug)]
struct Readings {
    last: Metered,
    /// What stores that were replaced had metered last. At the end, the store must have that much again.
    replaced: Vec<Metered>,
    count: u64,
    violations: Vec<Violation>,
}

impl Watch {
    /// Starts reading.
    pub fn start(meters: Meters) -> Self {
        let readings = Arc::default();
        Self { task: tokio::spawn(read_repeatedly(meters, Arc::clone(&readings))), readings }
    }

    /// Continues with the store that has replaced the one of before, such as a standby that was promoted. It
    /// may be behind, so the next reading may be lower than the last one: this once. At the end the usage
    /// must be at least what it was before. The earlier store must have ended.
    pub async fn follow(&mut self, meters: Meters) {
        self.task.abort();
        // So that no reading of the earlier store comes later.
        drop((&mut self.task).await);
        self.readings.lock().expect(NO_PANIC).follow();
        self.task = tokio::spawn(read_repeatedly(meters, Arc::clone(&self.readings)));
    }

    /// The number of successful readings.
    pub fn looks(&self) -> u64 {
        self.readings.lock().expect(NO_PANIC).count
    }

    /// Takes a last reading and returns the violations.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn finish(self, evidence: &dyn Evidence) -> Vec<Violation> {
        self.task.abort();
        let metered = evidence.metered().await;
        let mut readings = self.readings.lock().expect(NO_PANIC);
        readings.add(metered);
        readings.compare_with_replaced();
        std::mem::take(&mut readings.violations)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Readings {
    fn add(&mut self, metered: Metered) {
        self.count += 1;
        let decreases = decreases(&self.last, &metered, "fell");
        self.violations.extend(decreases);
        self.last = metered;
    }

    fn follow(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.replaced.push(last);
    }

    fn compare_with_replaced(&mut self) {
        let compared = self.replaced.iter().map(|before| decreases(before, &self.last, "went at a failover"));
        self.violations.extend(compared.flatten().collect::<Vec<_>>());
    }
}

fn decreases(before: &Metered, after: &Metered, verb: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (project, before) in before {
        let now = after.iter().find(|(id, _)| id == project).map_or(0, |(_, now)| *now);
        if now < *before {
            let said = format!("the metered usage of project {project} {verb} from {before} events to {now}");
            found.push(Violation { invariant: Invariant::Monotone, said });
        }
    }
    found
}

async fn read_repeatedly(meters: Meters, readings: Arc<Mutex<Readings>>) {
    let mut connection: Option<Client> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let reading = async {
            match &meters {
                Meters::Postgres(config) => {
                    if connection.is_none() {
                        connection = connect(config).await;
                    }
                    servers::metered(connection.as_ref()?).await.ok()
                }
                Meters::Files(files) => files::metered(&files.open("events.db").ok()?).ok(),
            }
        };
        match tokio::time::timeout(READ_DEADLINE, reading).await.ok().flatten() {
            Some(metered) => readings.lock().expect(NO_PANIC).add(metered),
            None => connection = None,
        }
    }
}

async fn connect(config: &Config) -> Option<Client> {
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations_of(end: i64) -> usize {
        let mut readings = Readings::default();
        readings.add(vec![(1, 10)]);
        readings.follow();
        readings.add(vec![(1, 4)]);
        readings.add(vec![(1, end)]);
        readings.compare_with_replaced();
        readings.violations.len()
    }

    #[test]
    fn usage_may_go_back_once_when_the_store_is_replaced_and_must_be_complete_at_the_end() {
        assert_eq!(violations_of(10), 0);
        assert_eq!(violations_of(9), 1, "what the replaced store had metered is missing");
        assert_eq!(violations_of(3), 2, "a second decrease");
    }
}
