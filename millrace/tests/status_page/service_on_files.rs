//! A `millrace` on files, its operator, and its clients.

#[path = "../installation/mod.rs"]
mod installation;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use millrace_store::sqlite::SqliteStore;
use millrace_store::{Accounts, Ledger, Payload, WriteRequest};
use millrace_stream::EntryId;
use serde_json::{Value, json};
use testkit::http::HttpClient;
use tokio::task::JoinHandle;

use self::installation::{Installation, Service};
use crate::chromium::Chromium;

/// The pause between two posts of a client.
const POST_PAUSE: Duration = Duration::from_millis(20);

pub struct ServiceOnFiles {
    // Declared first, so that it stops before its files are removed.
    service: Service,
    installation: Installation,
}

impl ServiceOnFiles {
    pub async fn start() -> Self {
        let installation = Installation::on_files();
        Self { service: installation.serve().await, installation }
    }

    /// Stops the service as Ctrl-C does.
    pub async fn stop(&mut self) {
        self.service.program.interrupt();
        assert!(self.service.program.wait_exit().await.success(), "{}", self.service.program.log());
    }

    /// Starts the service again, on the same files and the same port.
    pub async fn start_again(&mut self) {
        self.service = self.installation.serve_at(&self.service.address.to_string()).await;
    }

    pub fn url(&self) -> String {
        self.service.url()
    }

    /// The key of the first project.
    pub fn key(&self) -> String {
        self.service.key()
    }

    /// Runs an operator's command, which must succeed.
    pub async fn command(&self, arguments: &[&str]) -> String {
        self.installation.text(arguments).await
    }

    /// Adds an entry that cannot be read to the dead letters of a project, as a lane does.
    pub async fn add_dead_letter(&self, project: &str, reason: &str) {
        let store = SqliteStore::open(&self.installation.data()).unwrap();
        let accounts = store.accounts().await.unwrap();
        let account = accounts.iter().find(|account| &*account.project_name == project).unwrap();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let entry = WriteRequest {
            entry: EntryId { ms: u64::try_from(now).unwrap(), seq: 0 },
            shard: 0,
            batch_id: uuid::Uuid::now_v7(),
            project: account.project,
            count: 1,
            payload: Payload::DeadLetter { reason: reason.to_owned(), raw: Bytes::from_static(b"?") },
        };
        store.writer("test").await.unwrap().write(&[entry]).await.unwrap();
    }

    /// Starts a client that posts until its task is aborted.
    pub fn keep_posting(&self, key: &str) -> JoinHandle<()> {
        let (mut client, bearer) = (HttpClient::new(self.service.address), format!("Bearer {key}"));
        tokio::spawn(async move {
            loop {
                post(&mut client, &bearer, json!([{"name": "seen"}, {"name": "clicked"}])).await;
                tokio::time::sleep(POST_PAUSE).await;
            }
        })
    }

    /// Sends ordinary load of a few projects for two minutes, with some invalid requests.
    pub async fn realistic_load(&self, browser: &Chromium) {
        const KEYS: [(&str, &str, &str); 4] = [
            ("shop", "pro", "mk_shop_0123456789"),
            ("mobile-app", "pro", "mk_mobile_0123456789"),
            ("billing", "enterprise", "mk_billing_0123456789"),
            ("newsletter", "free", "mk_newsletter_0123456789"),
        ];
        for (project, plan, key) in KEYS {
            self.command(&["project", "create", project, "--plan", plan, "--key", key]).await;
            // A request with a key that is not known yet would be listed as rejected.
            browser.shows("projects", |text| text.contains(project)).await;
        }
        self.add_dead_letter("billing", "the entry is damaged: its rows do not end where they should").await;
        let mut client = HttpClient::new(self.service.address);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for tick in 0..1_250_u32 {
            ticks.tick().await;
            let wave = (f64::from(tick) / 90.0).sin() * 0.5 + (f64::from(tick) / 23.0).sin() * 0.2 + 1.0;
            for (index, (.., key)) in
                KEYS.iter().enumerate().filter(|(index, _)| tick % (7 * *index as u32 + 1) == 0)
            {
                let count = 1 + (wave * 14.0 / (index + 1) as f64) as usize;
                let batch: Vec<_> = (0..count).map(|_| event(tick)).collect();
                post(&mut client, &format!("Bearer {key}"), json!(batch)).await;
            }
            let bearer = format!("Bearer {}", KEYS[1].2);
            match tick {
                600 => post(&mut client, &bearer, json!([{"name": "", "properties": {}}])).await,
                900 => {
                    post(&mut client, &bearer, json!([{"name": "opened", "timestamp": "yesterday"}])).await
                }
                1_000 | 1_010 => post(&mut client, "Bearer mk_of_last_year", json!([])).await,
                1_100 => {
                    let again =
                        json!([{"name": "paid", "id": "order-17", "timestamp": "2026-01-05T10:00:00Z"}]);
                    post(&mut client, &bearer, again.clone()).await;
                    post(&mut client, &bearer, again).await;
                }
                _ => {}
            }
        }
    }
}

async fn post(client: &mut HttpClient, bearer: &str, events: Value) {
    let answer = client.post("/v1/events", &[("authorization", bearer)], events.to_string()).await.unwrap();
    assert!(answer.status < 500, "{answer:?}");
}

fn event(tick: u32) -> Value {
    json!({"name": "page_viewed", "subject": format!("user-{}", tick % 97), "properties": {"tick": tick}})
}
