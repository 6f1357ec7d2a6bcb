//! The example page in `examples/browser`, opened from its file in a real Chromium, sends events to a
//! `millrace` on files.

#[allow(dead_code, reason = "shared with the tests of the status page, which use more of it")]
#[path = "status_page/chromium.rs"]
mod chromium;
#[allow(dead_code, reason = "shared with the tests of the status page, which use more of it")]
#[path = "status_page/service_on_files.rs"]
mod service_on_files;

use std::net::SocketAddr;

use chromium::{Chromium, PATIENCE};
use serde_json::Value;
use service_on_files::ServiceOnFiles;
use testkit::{HttpProxy, RequestFault, eventually, http};

const WINDOW: (u32, u32) = (800, 600);
const PAGE: &str = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/../examples/browser/index.html");

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_page_is_stored_once_though_an_answer_is_lost() {
    let service = ServiceOnFiles::start().await;
    let key = service.key();
    // The first request asks whether the page may post; the second is the post.
    let proxy = HttpProxy::start(
        address(&service),
        &[(2, RequestFault::DropAnswer), (3, RequestFault::TooManyRequests(1))],
    )
    .await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    browser.page.goto(format!("{PAGE}#url=http://{}&key={key}", proxy.address())).await.unwrap();
    for _ in 0..3 {
        browser.click("#send").await;
    }
    browser.shows("accepted", |text| text.parse::<u64>().is_ok_and(|accepted| accepted >= 3)).await;
    browser.shows("waiting", |text| text == "0").await;
    let done = proxy.counts();
    assert_eq!((done.dropped, done.refused), (1, 1), "{done:?}");
    usage_reaches(&service, |events, duplicates| events == 3 && duplicates > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_page_that_is_closed_is_sent_by_a_beacon_and_stored_once() {
    let service = ServiceOnFiles::start().await;
    let key = service.key();
    let proxy = HttpProxy::start(address(&service), &[]).await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    let page = format!("{PAGE}#url=http://{}&key={key}", proxy.address());
    browser.page.goto(&page).await.unwrap();
    // The page is left before its timer sends anything.
    let leave = "document.getElementById('send').click(); location.href = 'about:blank'";
    browser.page.evaluate(leave).await.unwrap();
    usage_reaches(&service, |events, _| events == 1).await;
    assert_eq!(proxy.counts().received, 1, "only a beacon can post without a preflight request");

    // The event was kept, because a beacon has no answer. The page sends it again when it is opened again.
    browser.page.goto(&page).await.unwrap();
    browser.shows("accepted", |text| text == "1").await;
    usage_reaches(&service, |events, duplicates| (events, duplicates) == (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_wrong_key_shows_the_answer_and_keeps_its_events() {
    let service = ServiceOnFiles::start().await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    browser.page.goto(format!("{PAGE}#url={}&key=mk_unknown", service.url())).await.unwrap();
    browser.click("#send").await;
    browser.shows("answer", |text| text.contains("unauthenticated")).await;
    assert_eq!(browser.text("waiting").await, "1");
}

fn address(service: &ServiceOnFiles) -> SocketAddr {
    service.url().trim_start_matches("http://").parse().unwrap()
}

/// Waits until the events and duplicates in `GET /v1/usage` are as expected.
async fn usage_reaches(service: &ServiceOnFiles, expected: impl Fn(u64, u64) -> bool) {
    let bearer = format!("Bearer {}", service.key());
    eventually(PATIENCE, "the usage to be what was sent", async || {
        let answer = http::get(address(service), "/v1/usage", &[("authorization", &bearer)]).await;
        let total = &answer.json()["total"];
        let count = |name: &str| total.get(name).and_then(Value::as_u64).ok_or(format!("{answer:?}"));
        if expected(count("events")?, count("duplicates")?) { Ok(()) } else { Err(total.to_string()) }
    })
    .await;
}
