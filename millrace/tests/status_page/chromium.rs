//! A real headless Chromium with one page open, and what that page has asked for and complained of.

use std::fmt::Debug;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chromiumoxide::browser::{Browser, BrowserConfig};
use chromiumoxide::cdp::IntoEventKind;
use chromiumoxide::cdp::browser_protocol::emulation::{MediaFeature, SetDeviceMetricsOverrideParams};
use chromiumoxide::cdp::browser_protocol::log::EventEntryAdded;
use chromiumoxide::cdp::browser_protocol::network::EventRequestWillBeSent;
use chromiumoxide::cdp::js_protocol::runtime::{EventConsoleApiCalled, EventExceptionThrown};
use chromiumoxide::page::{Page, ScreenshotParams};
use futures_util::StreamExt;
use tempfile::TempDir;
use testkit::eventually;

/// Generous: a deadline that is met only by a defect.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The browser. It dies with this.
pub struct Chromium {
    pub page: Page,
    /// Every address the page asked for.
    requests: Noted,
    /// Whatever the page said to the console, and whatever the browser said of it.
    complaints: Noted,
    _browser: Browser,
    _profile: TempDir,
}

type Noted = Arc<Mutex<Vec<String>>>;

impl Chromium {
    /// Opens a window of this size, with nothing in it.
    pub async fn start(width: u32, height: u32) -> Self {
        let profile = TempDir::new().unwrap();
        let mut config = BrowserConfig::builder()
            .user_data_dir(profile.path())
            .new_headless_mode()
            .window_size(width, height)
            .viewport(None)
            .launch_timeout(PATIENCE)
            .arg("disable-dev-shm-usage");
        // Chromium's sandbox does not work for root; nothing but our own page is opened in it.
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            config = config.no_sandbox();
        }
        let config = config.build().unwrap_or_else(|error| {
            panic!("{error}\nThis test needs a Chromium; on Debian: apt-get install chromium")
        });
        let (browser, mut handler) = Browser::launch(config).await.unwrap_or_else(|error| {
            panic!("Chromium does not start: {error}\nOn Debian: apt-get install --reinstall chromium")
        });
        tokio::spawn(async move { while handler.next().await.is_some() {} });
        let page = browser.new_page("about:blank").await.unwrap();
        page.enable_log().await.unwrap();
        let (requests, complaints) = (Noted::default(), Noted::default());
        note(&page, &requests, |event: &EventRequestWillBeSent| Some(event.request.url.clone())).await;
        note(&page, &complaints, |event: &EventConsoleApiCalled| told(event)).await;
        note(&page, &complaints, |event: &EventExceptionThrown| told(event)).await;
        note(&page, &complaints, |event: &EventEntryAdded| told(event)).await;
        Self { page, requests, complaints, _browser: browser, _profile: profile }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// What an expression of JavaScript is in the page.
    pub async fn value<T: serde::de::DeserializeOwned>(&self, expression: &str) -> T {
        let evaluated = self.page.evaluate(expression).await;
        let evaluated = evaluated.unwrap_or_else(|error| panic!("{expression}: {error}"));
        evaluated.into_value().unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The text of an element, as it is shown.
    pub async fn text(&self, id: &str) -> String {
        self.value(&format!("document.getElementById('{id}').innerText")).await
    }

    /// Waits until an element shows such a text, and returns it.
    pub async fn shows(&self, id: &str, fact: impl Fn(&str) -> bool) -> String {
        eventually(PATIENCE, &format!("#{id} to show it"), async || {
            let text = self.text(id).await;
            if fact(&text) { Ok(text) } else { Err(text) }
        })
        .await
    }

    /// Empties a field and types into it, as a person does.
    pub async fn type_into(&self, id: &str, text: &str) {
        let field = self.page.find_element(format!("#{id}")).await.unwrap();
        field.focus().await.unwrap();
        self.page.evaluate(format!("document.getElementById('{id}').select()")).await.unwrap();
        field.press_key("Backspace").await.unwrap().type_str(text).await.unwrap();
    }

    pub async fn click(&self, selector: &str) {
        self.page.find_element(selector).await.unwrap().click().await.unwrap();
    }

    pub async fn resize(&self, width: i64, height: i64) {
        self.page.execute(SetDeviceMetricsOverrideParams::new(width, height, 1.0, false)).await.unwrap();
    }

    /// What the person prefers: `dark` or `light`.
    pub async fn prefer(&self, scheme: &str) {
        let feature = MediaFeature::new("prefers-color-scheme", scheme);
        self.page.emulate_media_features(vec![feature]).await.unwrap();
    }

    pub async fn picture(&self) -> Vec<u8> {
        self.page.screenshot(ScreenshotParams::builder().full_page(true).build()).await.unwrap()
    }
}

fn told(event: &impl Debug) -> Option<String> {
    Some(format!("{event:?}"))
}

/// Notes what is worth it of every event of a kind, from now on.
async fn note<E: IntoEventKind + Unpin>(page: &Page, noted: &Noted, worth: fn(&E) -> Option<String>) {
    let mut events = page.event_listener::<E>().await.unwrap();
    let noted = Arc::clone(noted);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            noted.lock().unwrap().extend(worth(&event));
        }
    });
}
