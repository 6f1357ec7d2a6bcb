//! The status page of `millrace`, in a real browser.

mod chromium;
mod service_on_files;

use chromium::{Chromium, PATIENCE};
use service_on_files::ServiceOnFiles;
use testkit::eventually;

/// Width and height of an ordinary window.
const WINDOW: (u32, u32) = (1_200, 900);

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_sees_events_arrive_and_sends_one_by_hand() {
    let service = ServiceOnFiles::start().await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    let key = service.key();
    browser.page.goto(format!("{}/#key={key}", service.url())).await.unwrap();
    browser.shows("connection", |text| text == "Live").await;
    browser.shows("readiness", |text| text == "Ready").await;
    let address: String = browser.value("location.href").await;
    assert_eq!(address, format!("{}/", service.url()), "the key is not in the address bar");
    let kept: String = browser.value("sessionStorage.getItem('millrace-key')").await;
    assert_eq!(kept, key);
    assert_eq!(browser.value::<usize>("localStorage.length + document.cookie.length").await, 0);

    let posting = service.keep_posting(&key);
    browser.shows("accepted", |text| text.parse::<f64>().is_ok_and(|rate| rate > 0.0)).await;
    browser.shows("stored", |text| text.parse::<f64>().is_ok_and(|rate| rate > 0.0)).await;
    browser.shows("projects", |text| text.starts_with("default") && !text.contains("default\t0")).await;
    let drawn = "document.getElementById('accepted-line').getAttribute('d').includes('L')";
    eventually(PATIENCE, "a line to be drawn", async || browser.value::<bool>(drawn).await).await;
    posting.abort();

    browser.type_into("name", "sent_by_hand").await;
    browser.click("#send button").await;
    let answer = browser.shows("answer", |text| text.contains("HTTP 200")).await;
    assert!(answer.contains("Stored 1") && answer.contains(r#""stored":1"#), "{answer}");

    browser.type_into("name", "").await;
    browser.click("#send button").await;
    browser.shows("answer", |text| text.contains("HTTP 422")).await;
    let rejected = browser.shows("rejected", |text| text.contains("default")).await;
    assert!(rejected.contains("name"), "{rejected}");

    // The browser reports the answer 422 to an invalid event as an error; the page is right.
    let complaints = browser.complaints();
    let unexpected: Vec<_> = complaints.iter().filter(|complaint| !complaint.contains("422")).collect();
    assert_eq!(unexpected, Vec::<&String>::new());
    let requests = browser.requests();
    let ours = |request: &&String| request.starts_with(&service.url()) || request.starts_with("data:");
    assert!(requests.len() >= 4, "{requests:?}");
    assert_eq!(requests.iter().filter(|request| !ours(request)).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_reasons_are_text_and_never_markup() {
    let service = ServiceOnFiles::start().await;
    let markup = "<img src=x onerror=alert(1)>";
    service.command(&["project", "create", markup, "--plan", "free", "--key", "mk_markup_0123456789"]).await;
    service.add_dead_letter(markup, "<b>bold</b>").await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    browser.page.goto(service.url()).await.unwrap();
    browser.shows("projects", |text| text.contains(markup)).await;
    browser.shows("letters", |text| text.contains("<b>bold</b>") && text.contains(markup)).await;
    let address = service.url().strip_prefix("http://").unwrap().parse().unwrap();
    let headers = [("authorization", "Bearer mk_markup_0123456789")];
    let hostile = r#"{"name":"a","<img src=y>\u202e\u001b[31m":1}"#;
    assert_eq!(testkit::http::post(address, "/v1/events", &headers, hostile).await.status, 422);
    let is_escaped = |text: &str| text.contains(r"<img src=y>\u{202e}\u{1b}[31m: unknown field");
    browser.shows("rejected", is_escaped).await;
    browser.shows("refused", |text| text.contains(markup) && text.contains("unknown_field")).await;
    assert_eq!(browser.value::<usize>("document.querySelectorAll('img, b, main script').length").await, 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_telephone_and_has_a_dark_scheme() {
    let service = ServiceOnFiles::start().await;
    let long = "a-project-with-a-name-that-is-longer-than-any-telephone-is-wide";
    service.command(&["project", "create", long, "--plan", "free", "--key", "mk_long_name_0123456789"]).await;
    service.add_dead_letter(long, &"reason".repeat(40)).await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    browser.resize(360, 740).await;
    browser.page.goto(service.url()).await.unwrap();
    browser.shows("letters", |text| text.contains("reason")).await;
    browser.shows("projects", |text| text.contains("a-project")).await;
    let widths: (u32, u32) =
        browser.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]").await;
    assert_eq!(widths, (360, 360), "nothing is wider than the window");

    let ground = "getComputedStyle(document.body).backgroundColor";
    browser.prefer("light").await;
    let light: String = browser.value(ground).await;
    browser.prefer("dark").await;
    let dark: String = browser.value(ground).await;
    let brightness = |color: &str| -> u32 {
        color.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok()).sum()
    };
    assert!(brightness(&light) > 600 && brightness(&dark) < 150, "{light} and {dark}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_shown_and_restored() {
    let mut service = ServiceOnFiles::start().await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    browser.page.goto(service.url()).await.unwrap();
    browser.shows("connection", |text| text == "Live").await;
    service.stop().await;
    browser.shows("connection", |text| text.contains("lost")).await;
    service.start_again().await;
    browser.shows("connection", |text| text == "Live").await;
}

/// Draws the picture in the README: `cargo test -p millrace --test status_page -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a file of the project"]
async fn the_picture_of_the_readme() {
    let service = ServiceOnFiles::start().await;
    let browser = Chromium::start(WINDOW.0, WINDOW.1).await;
    browser.page.goto(format!("{}/#key={}", service.url(), service.key())).await.unwrap();
    service.realistic_load(&browser).await;
    browser.type_into("name", "signed_up").await;
    browser.click("#send button").await;
    browser.shows("answer", |text| text.contains("Stored 1")).await;
    let picture = browser.picture().await;
    assert!(picture.len() < 300_000, "{} bytes", picture.len());
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images");
    std::fs::create_dir_all(images).unwrap();
    std::fs::write(format!("{images}/status.png"), picture).unwrap();
}
