//! A running installation with a project whose customers reach a threshold.

use serde_json::Value;
use testkit::{Program, eventually};

use crate::endpoint::Endpoint;
use crate::installation::{Installation, PATIENCE, Service};

/// `NOTIFY_ALLOW_HOSTS`, for endpoints on this machine.
pub const ALLOW: [(&str, &str); 1] = [("NOTIFY_ALLOW_HOSTS", "127.0.0.1,localhost")];

const THRESHOLD: [&str; 10] =
    ["threshold", "set", "shop", "two", "--meter", "calls", "--per", "day", "--value", "2"];

/// Programs stop before their servers, so they come first.
pub struct Site {
    pub service: Service,
    pub key: String,
    /// The secret of the project.
    pub secret: String,
    pub installation: Installation,
}

impl Site {
    /// `millrace` with these settings, the project `shop`, and a threshold of 2 events a day of a customer.
    pub async fn start(installation: Installation, settings: &[(&str, &str)], url: &str) -> Self {
        let service = Service::of(installation.program("millrace", settings)).await;
        let key = installation.project("shop", "enterprise").await;
        installation.text(&["meter", "create", "shop", "calls", "--event", "call"]).await;
        let set = installation.json(&[&THRESHOLD[..], &["--url", url]].concat()).await;
        let secret = set["signing_secret"].as_str().expect("a secret").to_owned();
        Self { service, key, secret, installation }
    }

    pub async fn on_files(endpoint: &Endpoint) -> Self {
        Self::start(Installation::on_files(), &ALLOW, &endpoint.url()).await
    }

    pub async fn on_servers(endpoint: &Endpoint) -> Self {
        Self::start(Installation::on_servers().await, &ALLOW, &endpoint.url()).await
    }

    /// Stores two events of each customer.
    pub async fn reach(&self, customers: &[String]) {
        let event = |customer: &String| format!(r#"{{"name":"call","subject":"{customer}"}}"#);
        let events: Vec<_> = customers.iter().chain(customers).map(event).collect();
        self.service.store(&self.key, &format!("[{}]", events.join(","))).await;
    }

    pub async fn reach_one(&self) {
        self.reach(&["acme".to_owned()]).await;
    }

    /// Starts the program again, with these settings.
    pub async fn restart(&mut self, settings: &[(&str, &str)]) {
        self.service = Service::of(self.installation.program("millrace", settings)).await;
    }

    /// Waits until the newest notification is as it should be.
    pub async fn log(&self, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        eventually(PATIENCE, what, async || {
            let log = self.installation.json(&["notifications", "shop"]).await;
            let newest = log["notifications"][0].clone();
            if is_right(&newest) { Ok(newest) } else { Err(log.to_string()) }
        })
        .await
    }

    /// Waits until the last attempt has failed with this text.
    pub async fn fails_with(&self, text: &str) -> Value {
        self.log(text, |newest| newest["error"].as_str().is_some_and(|error| error.contains(text))).await
    }

    /// Gives the threshold another URL.
    pub async fn set_url(&self, url: &str) {
        self.installation.text(&[&THRESHOLD[..], &["--url", url]].concat()).await;
    }

    pub async fn retry(&self, notification: &Value) {
        let id = notification["notification_id"].to_string();
        self.installation.text(&["notifications", "retry", &id]).await;
    }

    /// Starts another worker on the same servers.
    pub fn another_worker(&self) -> Program {
        self.installation.program("stream-worker", &ALLOW)
    }
}
