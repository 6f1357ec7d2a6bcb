//! Reads the metered usage during the faults: it must never decrease (I12).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::evidence::{Evidence, Files, files, servers};
use super::findings::{Invariant, Violation};

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
    last: Vec<(i64, i64)>,
    count: u64,
    violations: Vec<Violation>,
}

impl Watch {
    /// Starts reading.
    pub fn start(meters: Meters) -> Self {
        let readings = Arc::default();
        Self { task: tokio::spawn(read_repeatedly(meters, Arc::clone(&readings))), readings }
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
        std::mem::take(&mut readings.violations)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Readings {
    fn add(&mut self, metered: Vec<(i64, i64)>) {
        self.count += 1;
        for (project, before) in &self.last {
            let now = metered.iter().find(|(id, _)| id == project).map_or(0, |(_, now)| *now);
            if now < *before {
                let said =
                    format!("the metered usage of project {project} fell from {before} events to {now}");
                self.violations.push(Violation { invariant: Invariant::Monotone, said });
            }
        }
        self.last = metered;
    }
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
