//! A headless Chromium with one page open, which records the requests and the errors of the page.

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

/// Generous: only a defect exceeds it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The browser; it is closed on drop.
pub struct Chromium {
    pub page: Page,
    /// Every URL that the page requested.
    requests: Records,
    /// Messages of the page to the console, and of the browser about the page.
    complaints: Records,
    _browser: Browser,
    _profile: TempDir,
}

type Records = Arc<Mutex<Vec<String>>>;

impl Chromium {
    /// Opens an empty window of this size.
    pub async fn start(width: u32, height: u32) -> Self {
        let profile = TempDir::new().unwrap();
        let mut config = BrowserConfig::builder()
            .user_data_dir(profile.path())
            .new_headless_mode()
            .window_size(width, height)
            .viewport(None)
            .launch_timeout(PATIENCE)
            .arg("disable-dev-shm-usage");
        // Chromium's sandbox does not work for root. Only our own page is opened in it.
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
        let (requests, complaints) = (Records::default(), Records::default());
        record(&page, &requests, |event: &EventRequestWillBeSent| Some(event.request.url.clone())).await;
        record(&page, &complaints, |event: &EventConsoleApiCalled| text_of(event)).await;
        record(&page, &complaints, |event: &EventExceptionThrown| text_of(event)).await;
        record(&page, &complaints, |event: &EventEntryAdded| text_of(event)).await;
        Self { page, requests, complaints, _browser: browser, _profile: profile }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// The value of a JavaScript expression in the page.
    pub async fn value<T: serde::de::DeserializeOwned>(&self, expression: &str) -> T {
        let evaluated = self.page.evaluate(expression).await;
        let evaluated = evaluated.unwrap_or_else(|error| panic!("{expression}: {error}"));
        evaluated.into_value().unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The visible text of an element.
    pub async fn text(&self, id: &str) -> String {
        self.value(&format!("document.getElementById('{id}').innerText")).await
    }

    /// Waits until the text of an element is right, and returns it.
    pub async fn shows(&self, id: &str, is_right: impl Fn(&str) -> bool) -> String {
        eventually(PATIENCE, &format!("#{id} to show it"), async || {
            let text = self.text(id).await;
            if is_right(&text) { Ok(text) } else { Err(text) }
        })
        .await
    }

    /// Replaces the text of a field by typing.
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

    /// Sets the preferred color scheme: `dark` or `light`.
    pub async fn prefer(&self, scheme: &str) {
        let feature = MediaFeature::new("prefers-color-scheme", scheme);
        self.page.emulate_media_features(vec![feature]).await.unwrap();
    }

    pub async fn picture(&self) -> Vec<u8> {
        self.page.screenshot(ScreenshotParams::builder().full_page(true).build()).await.unwrap()
    }
}

fn text_of(event: &impl Debug) -> Option<String> {
    Some(format!("{event:?}"))
}

/// Records the text that `text` returns for each event of a kind, from now on.
async fn record<E: IntoEventKind + Unpin>(page: &Page, records: &Records, text: fn(&E) -> Option<String>) {
    let mut events = page.event_listener::<E>().await.unwrap();
    let records = Arc::clone(records);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            records.lock().unwrap().extend(text(&event));
        }
    });
}
