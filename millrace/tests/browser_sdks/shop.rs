//! A page in a real Chromium, a `millrace` on files, and a proxy with faults between them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use testkit::{HttpProxy, RequestFault, eventually};

use crate::chromium::{Chromium, PATIENCE};
use crate::installation::{Installation, Service};
use crate::pages::Pages;

const WINDOW: (u32, u32) = (800, 600);

pub struct Shop {
    pub pages: Pages,
    pub browser: Chromium,
    pub proxy: HttpProxy,
    pub service: Service,
    pub installation: Installation,
    /// The key that the first start prints for web pages.
    pub web_key: String,
}

impl Shop {
    /// The faults are those of the k-th POST that sends events, counted from 1.
    pub async fn open(faults: &[(u64, RequestFault)]) -> Self {
        let installation = Installation::on_files();
        let service = installation.serve().await;
        let log = service.program.log();
        let web_key = log.lines().find_map(|line| line.trim().strip_prefix("Web key"));
        let web_key = web_key.unwrap_or_else(|| panic!("no key for web pages was printed:\n{log}"));
        Self {
            pages: Pages::start().await,
            browser: Chromium::start(WINDOW.0, WINDOW.1).await,
            proxy: HttpProxy::start_for_posts(service.address, faults).await,
            web_key: web_key.trim().to_owned(),
            service,
            installation,
        }
    }

    /// The address that the page knows.
    pub fn url(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    /// Opens a page with an SDK that has our address and a key, and waits until the SDK is ready.
    pub async fn visit(&self, page: &str, options: &str) {
        let address = format!("{}#url={}&key={}{options}", self.pages.url(page), self.url(), self.web_key);
        self.browser.page.goto(address).await.unwrap();
        self.browser.shows("state", |text| text == "ready").await;
    }

    pub async fn run(&self, script: &str) {
        self.browser.page.evaluate(script).await.unwrap_or_else(|error| panic!("{script}: {error}"));
    }

    /// Leaves the page, as a click on a link does.
    pub async fn leave(&self) {
        self.browser.page.goto("about:blank").await.unwrap();
    }

    /// How often each event is stored, by its name.
    pub fn stored(&self) -> BTreeMap<String, u64> {
        let file = self.installation.data().join("events.db");
        let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut counts = store.prepare("SELECT name, count(*) FROM events GROUP BY name").unwrap();
        let rows = counts.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Waits until exactly these events are stored, each once, and nothing waits or is dead.
    pub async fn stores_once(&self, names: &[&str]) {
        let expected: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        eventually(PATIENCE, "each event to be stored once", async || {
            let stored = self.stored();
            if stored == expected {
                Ok(())
            } else {
                Err(format!("{stored:?}; {:?}", self.browser.complaints()))
            }
        })
        .await;
        let audit = self.installation.json(&["audit"]).await;
        assert_eq!(audit["exact"], true, "{audit}");
    }

    /// Waits until the call whose answer was lost was sent again.
    pub async fn counts_a_duplicate(&self) {
        eventually(PATIENCE, "the call with the lost answer to be sent again", async || {
            let usage = self.usage().await;
            if usage["duplicates"].as_u64() > Some(0) { Ok(()) } else { Err(usage.to_string()) }
        })
        .await;
    }

    /// The properties of the only event with this name, its time and that of its receipt, in microseconds.
    pub fn row(&self, name: &str) -> (Value, i64, i64) {
        let file = self.installation.data().join("events.db");
        let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let query = "SELECT properties, timestamp, received_at FROM events WHERE name = ?1";
        let row =
            store.query_row(query, [name], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)));
        let (properties, time, received) = row.unwrap_or_else(|error| panic!("{name}: {error}"));
        (serde_json::from_str(&properties).unwrap(), time, received)
    }

    /// The usage of the project, with its own key.
    pub async fn usage(&self) -> Value {
        self.installation.json(&["usage", "--from", "1d"]).await["total"].clone()
    }

    /// Every address that the page asked for, other than its own and ours.
    pub fn foreign_requests(&self) -> Vec<String> {
        let (pages, ours) = (self.pages.origin(), self.url());
        let requests = self.browser.requests().into_iter();
        requests
            .filter(|url| !url.starts_with(&pages) && !url.starts_with(&ours) && url != "about:blank")
            .collect()
    }
}
