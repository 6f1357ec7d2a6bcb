//! Watches the meters while things go wrong: what was metered is never taken back (I12).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::evidence::{Evidence, Files, files, servers};
use super::judge::{Invariant, Violation};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// How long one look may take: a fault may hold the table.
const LOOK_DEADLINE: Duration = Duration::from_secs(3);

/// Where the meters are.
#[derive(Clone, Debug)]
pub enum Meters {
    /// In PostgreSQL.
    Postgres(Box<Config>),
    /// In a data directory.
    Files(Files),
}

/// A look at the meters every quarter of a second, for as long as it lives. Outages of the database are waited out.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Default, Debug)]
struct Seen {
    last: Vec<(i64, i64)>,
    looks: u64,
    violations: Vec<Violation>,
}

impl Watch {
    /// Begins to look.
    pub fn start(meters: Meters) -> Self {
        let seen = Arc::default();
        Self { task: tokio::spawn(look_on(meters, Arc::clone(&seen))), seen }
    }

    /// Looks that succeeded so far.
    pub fn looks(&self) -> u64 {
        self.seen.lock().expect("nobody panics with it in hand").looks
    }

    /// Takes a last look and tells what is wrong.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn finish(self, evidence: &dyn Evidence) -> Vec<Violation> {
        self.task.abort();
        let metered = evidence.metered().await;
        let mut seen = self.seen.lock().expect("nobody panics with it in hand");
        seen.note(metered);
        std::mem::take(&mut seen.violations)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn note(&mut self, metered: Vec<(i64, i64)>) {
        self.looks += 1;
        for (project, before) in &self.last {
            let now = metered.iter().find(|(id, _)| id == project).map_or(0, |(_, now)| *now);
            if now < *before {
                let said = format!("project {project} was metered {before} events, later {now}");
                self.violations.push(Violation { invariant: Invariant::Monotone, said });
            }
        }
        self.last = metered;
    }
}

async fn look_on(meters: Meters, seen: Arc<Mutex<Seen>>) {
    let mut connection: Option<Client> = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let look = async {
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
        match tokio::time::timeout(LOOK_DEADLINE, look).await.ok().flatten() {
            Some(metered) => seen.lock().expect("nobody panics with it in hand").note(metered),
            None => connection = None,
        }
    }
}

async fn connect(config: &Config) -> Option<Client> {
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}
