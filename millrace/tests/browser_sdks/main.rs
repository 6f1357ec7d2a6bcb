//! SDKs for web pages and beacons, in a real Chromium, from a page of another origin.

#[allow(dead_code, reason = "shared with the tests of the status page, which use more of it")]
#[path = "../status_page/chromium.rs"]
mod chromium;
#[path = "../installation/mod.rs"]
mod installation;
mod pages;
mod shop;

use shop::Shop;
use testkit::RequestFault::{DropAnswer, SlowBodies, TooManyRequests, Unavailable};

/// Refused twice, then an answer that is lost, then bodies that arrive slowly.
const FAULTS: [(u64, testkit::RequestFault); 4] =
    [(1, TooManyRequests(1)), (2, Unavailable(1)), (3, DropAnswer), (4, SlowBodies)];

/// More than a test takes, in microseconds.
const SOON_US: i64 = 600_000_000;

async fn stores_each_event_once_through_faults(page: &str) {
    let shop = Shop::open(&FAULTS).await;
    shop.visit(page, "").await;
    shop.run(
        "identify('user-1', { plan: 'pro' }); for (const name of ['a', 'b', 'c', 'd']) track(name, { n: 1 })",
    )
    .await;
    shop.stores_once(&["$identify", "a", "b", "c", "d"]).await;
    let counts = shop.proxy.counts();
    assert_eq!((counts.refused, counts.dropped, counts.slowed), (2, 1, 1), "{counts:?}");
    shop.counts_a_duplicate().await;
    assert_eq!(shop.foreign_requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_sdk_needs_only_our_address_and_a_key_and_stores_each_event_once_through_faults() {
    stores_each_event_once_through_faults("segment.html").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_sdk_sends_its_batch_when_the_page_is_left() {
    let shop = Shop::open(&[]).await;
    shop.visit("segment.html", "&batching").await;
    shop.run("for (const name of ['a', 'b']) track(name)").await;
    shop.leave().await;
    shop.stores_once(&["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_sdk_sends_what_was_refused_when_the_page_is_opened_again() {
    let refused: Vec<_> = (1..=2).map(|post| (post, Unavailable(60))).collect();
    let shop = Shop::open(&refused).await;
    shop.visit("segment.html", "").await;
    shop.run("track('a'); track('b')").await;
    testkit::eventually(chromium::PATIENCE, "both calls to be refused", async || {
        match shop.proxy.counts().refused {
            2 => Ok(()),
            refused => Err(refused.to_string()),
        }
    })
    .await;
    shop.leave().await;
    shop.visit("segment.html", "").await;
    shop.stores_once(&["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rudderstacks_sdk_needs_only_our_address_and_a_key_and_stores_each_event_once_through_faults() {
    stores_each_event_once_through_faults("rudderstack.html").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rudderstacks_sdk_sends_beacons_when_the_page_is_left() {
    let shop = Shop::open(&[]).await;
    shop.visit("rudderstack.html", "&beacon").await;
    shop.run("for (const name of ['a', 'b']) track(name)").await;
    shop.leave().await;
    shop.stores_once(&["a", "b"]).await;
    assert_eq!(shop.foreign_requests(), Vec::<String>::new());
}

/// PostHog's SDK gives up after a 429, which Millrace therefore never answers it.
const POSTHOG_FAULTS: [(u64, testkit::RequestFault); 3] =
    [(1, DropAnswer), (2, Unavailable(1)), (3, SlowBodies)];

#[tokio::test(flavor = "multi_thread")]
async fn posthogs_sdk_needs_only_our_address_and_a_key_and_stores_each_event_once_through_faults() {
    for compression in ["gzip-js", "none"] {
        let shop = Shop::open(&POSTHOG_FAULTS).await;
        shop.visit("posthog.html", &format!("&compression={compression}")).await;
        shop.run(
            "identify('user-1', { plan: 'pro' }); for (const name of ['a', 'b', 'c']) track(name, { n: 1 })",
        )
        .await;
        shop.stores_once(&["$identify", "a", "b", "c"]).await;
        let counts = shop.proxy.counts();
        assert_eq!((counts.refused, counts.dropped, counts.slowed), (1, 1, 1), "{compression}: {counts:?}");
        shop.counts_a_duplicate().await;
        assert_eq!(shop.foreign_requests(), Vec::<String>::new());
        let (traits, ..) = shop.row("$identify");
        assert_eq!(traits, serde_json::json!({ "plan": "pro" }));
        let (properties, ..) = shop.row("a");
        assert_eq!((&properties["n"], &properties["token"]), (&1.into(), &serde_json::Value::Null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn posthogs_sdk_sends_what_it_captures_by_itself_and_beacons_when_the_page_is_left() {
    let shop = Shop::open(&[]).await;
    for compression in ["gzip-js", "base64"] {
        shop.visit("posthog.html", &format!("&automatic&compression={compression}")).await;
        shop.run(&format!("track('{compression}'); document.body.click()")).await;
        shop.leave().await;
        testkit::eventually(chromium::PATIENCE, "the events of the page", async || {
            let stored = shop.stored();
            let sent = [compression, "$page", "$pageleave"].map(|name| stored.get(name).copied());
            if sent.iter().all(Option::is_some) { Ok(()) } else { Err(format!("{stored:?}")) }
        })
        .await;
        assert_eq!(shop.row("$page").0["name"], "shop", "{compression}");
        assert_eq!(shop.stored()[compression], 1);
    }
    assert_eq!(shop.stored()["$page"], 2);
    assert_eq!(shop.foreign_requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn amplitudes_sdk_needs_only_our_address_and_a_key_and_stores_each_event_once_through_faults() {
    let shop = Shop::open(&[(1, Unavailable(1)), (2, TooManyRequests(1))]).await;
    shop.visit("amplitude.html", "").await;
    shop.run(
        "identify('user-1', { plan: 'pro' }); for (const name of ['a', 'b', 'c']) track(name, { n: 1 })",
    )
    .await;
    shop.stores_once(&["$identify", "a", "b", "c"]).await;
    assert_eq!(shop.proxy.counts().refused, 2);
    assert_eq!(shop.row("$identify").0, serde_json::json!({ "plan": "pro" }));
    assert_eq!(shop.foreign_requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn mixpanels_sdk_needs_only_our_address_and_a_key_and_stores_each_event_once_through_faults() {
    for format in ["", "&base64"] {
        let shop = Shop::open(&[(1, Unavailable(1)), (2, TooManyRequests(1))]).await;
        shop.visit("mixpanel.html", format).await;
        shop.run("for (const name of ['a', 'b', 'c']) track(name, { n: 1 })").await;
        shop.stores_once(&["a", "b", "c"]).await;
        assert_eq!(shop.proxy.counts().refused, 2);
        assert_eq!(shop.row("a").0["n"], 1);
        assert_eq!(shop.foreign_requests(), Vec::<String>::new());
    }
}

/// Two answers that are lost, with bodies between them that arrive slowly.
const LOST_ANSWERS: [(u64, testkit::RequestFault); 3] = [(1, DropAnswer), (2, SlowBodies), (3, DropAnswer)];

/// One call after the other, so that each SDK makes as many requests as there are faults. An SDK that takes a
/// batch with a lost answer for stored does not send it again, and Chromium does: the third request is on a
/// connection that was used before.
async fn stores_each_event_once_through_lost_answers(page: &str, options: &str) {
    let shop = Shop::open(&LOST_ANSWERS).await;
    shop.visit(page, options).await;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        shop.run(&format!("track('{name}', {{ n: 1 }})")).await;
        testkit::eventually(chromium::PATIENCE, "the call to be stored", async || {
            let stored = shop.stored();
            if stored.contains_key(name) { Ok(()) } else { Err(format!("{name}: {stored:?}")) }
        })
        .await;
    }
    testkit::eventually(chromium::PATIENCE, "the batches to be sent again", async || {
        let (usage, counts) = (shop.usage().await, shop.proxy.counts());
        let is_repeated = usage["duplicates"].as_u64() > Some(0);
        let has_faults = (counts.dropped, counts.slowed) == (2, 1);
        if is_repeated && has_faults { Ok(()) } else { Err(format!("{counts:?} {usage}")) }
    })
    .await;
    shop.stores_once(&names).await;
    assert_eq!(shop.foreign_requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn jitsus_sdk_needs_only_our_address_and_a_key_and_stores_each_event_once_through_faults() {
    stores_each_event_once_through_faults("jitsu.html").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snowplows_tracker_needs_only_our_address_and_a_key_and_stores_each_event_once_through_faults() {
    let shop = Shop::open(&FAULTS).await;
    shop.visit("snowplow.html", "").await;
    shop.run(
        "identify('user-1'); page('Docs'); act('buy', 19.9); track('a', { n: 1 }); track('b', { n: 1 })",
    )
    .await;
    shop.stores_once(&["$page", "buy", "a", "b"]).await;
    let counts = shop.proxy.counts();
    assert_eq!((counts.refused, counts.dropped, counts.slowed), (2, 1, 1), "{counts:?}");
    shop.counts_a_duplicate().await;
    assert_eq!(shop.row("a").0, serde_json::json!({ "n": 1 }));
    assert_eq!(shop.row("buy").0["value"], 19.9);
    assert_eq!(shop.row("$page").0["name"], "Docs");
    assert_eq!(shop.foreign_requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn snowplows_tracker_sends_by_get_with_a_header_and_when_the_page_is_left() {
    let shop = Shop::open(&[]).await;
    for (options, name) in [("&get", "a"), ("&get&header", "b"), ("&header", "c"), ("&batching", "d")] {
        shop.visit(&format!("snowplow.html?{name}"), options).await;
        shop.run(&format!("track('{name}', {{ n: 1 }})")).await;
        if options == "&batching" {
            shop.leave().await;
        }
        let expected: Vec<_> = ["a", "b", "c", "d"].into_iter().filter(|other| *other <= name).collect();
        shop.stores_once(&expected).await;
        assert_eq!(shop.row(name).0, serde_json::json!({ "n": 1 }));
    }
    assert_eq!(shop.foreign_requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn amplitudes_sdk_stores_each_event_once_through_lost_answers() {
    stores_each_event_once_through_lost_answers("amplitude.html", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixpanels_sdk_stores_each_event_once_through_lost_answers() {
    stores_each_event_once_through_lost_answers("mixpanel.html", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixpanels_sdk_stores_each_event_once_through_lost_answers_with_base64() {
    stores_each_event_once_through_lost_answers("mixpanel.html", "&base64").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn posthogs_sdk_stores_each_event_once_through_lost_answers() {
    stores_each_event_once_through_lost_answers("posthog.html", "").await;
}

/// Calls that no JSON and no time can express, through the same faults as ordinary ones.
async fn odd_calls_are_repaired(page: &str) {
    let shop = Shop::open(&FAULTS).await;
    shop.visit(page, "").await;
    shop.run(
        r#"
        track("plain", { n: 1 });
        track("cut", { t: "cut \ud83d", "\udead": ["\ud83d\ude00"] });
        track("cut \ud83d", { n: 1 });
        track("numbers", { a: NaN, b: [Infinity, -Infinity], c: new Date(NaN) });
        for (const [name, time] of [["bogus", "bogus"], ["late", new Date(8.64e15)], ["none", new Date(NaN)]])
          track(name, { n: 1 }, { timestamp: time, originalTimestamp: time });
        track("old", { n: 1 }, { timestamp: "2026-11-20T10:00:00.5", originalTimestamp: "2026-11-20T10:00:00.5" });
        "#,
    )
    .await;
    shop.stores_once(&["plain", "cut", "cut \u{FFFD}", "numbers", "bogus", "late", "none", "old"]).await;
    let (properties, ..) = shop.row("cut");
    assert_eq!(properties["t"], "cut \u{FFFD}");
    assert_eq!(properties["\u{FFFD}"], serde_json::json!(["\u{1F600}"]));
    let (properties, ..) = shop.row("numbers");
    let nulls = serde_json::json!([null, [null, null], null]);
    assert_eq!(serde_json::json!([properties["a"], properties["b"], properties["c"]]), nulls);
    for name in ["bogus", "late", "none"] {
        // The time of receipt, or another one that the SDK gave the call as well.
        let (_, time, received) = shop.row(name);
        assert!((0..=SOON_US).contains(&(received - time)), "{name}: {time} {received}");
    }
    assert_eq!(shop.row("old").1, 1_795_168_800_500_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_calls_of_segments_sdk_are_repaired() {
    odd_calls_are_repaired("segment.html").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_calls_of_rudderstacks_sdk_are_repaired() {
    odd_calls_are_repaired("rudderstack.html").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_tracing_libraries_block_no_sdk() {
    let shop = Shop::open(&[]).await;
    for (page, name) in [("traced/segment.html", "a"), ("traced/rudderstack.html", "b")] {
        shop.visit(page, "").await;
        shop.run(&format!("track('{name}')")).await;
        let expected: Vec<_> = ["a", "b"].into_iter().filter(|other| *other <= name).collect();
        shop.stores_once(&expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_is_stored_in_every_form_that_a_browser_allows() {
    let shop = Shop::open(&[]).await;
    shop.browser.page.goto(shop.pages.url("empty.html")).await.unwrap();
    let send = format!(
        "const [url, writeKey] = ['{}', '{}'];
         const batch = (name) => JSON.stringify({{ batch: [{{ type: 'track', event: name, userId: 'u' }}] }});
         const keyed = (name) => JSON.stringify({{ writeKey, ...JSON.parse(batch(name)) }});
         const form = (name) => {{ const data = new FormData(); data.set('data', keyed(name)); return data; }};
         const blob = (text, type) => new Blob([text], {{ type }});
         const query = `?writeKey=${{writeKey}}`;
         const sent = [
           navigator.sendBeacon(`${{url}}/v1/batch`, keyed('string')),
           navigator.sendBeacon(`${{url}}/v1/batch`, blob(keyed('text'), 'text/plain')),
           navigator.sendBeacon(`${{url}}/v1/batch`, blob(keyed('json'), 'application/json')),
           navigator.sendBeacon(`${{url}}/v1/batch`, new URLSearchParams({{ data: keyed('pairs') }})),
           navigator.sendBeacon(`${{url}}/v1/batch`, form('parts')),
           navigator.sendBeacon(`${{url}}/beacon/v1/batch${{query}}`, batch('query string')),
           navigator.sendBeacon(`${{url}}/beacon/v1/batch${{query}}`, blob(batch('query json'), 'application/json')),
           navigator.sendBeacon(`${{url}}/v1/events${{query}}`, blob('{{\"name\":\"native\"}}', 'application/json')),
         ];
         location.href = 'about:blank';
         sent.every(Boolean)",
        shop.url(),
        shop.web_key
    );
    assert!(shop.browser.value::<bool>(&send).await, "the browser takes every beacon");
    shop.stores_once(&["string", "text", "json", "pairs", "parts", "query string", "query json", "native"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_usage_with_a_key_that_may_and_why_another_may_not() {
    let shop = Shop::open(&[]).await;
    shop.browser.page.goto(shop.pages.url("traced/empty.html")).await.unwrap();
    let origin = shop.pages.origin();
    let key = async |arguments: &[&str]| {
        let created = shop.installation.json(&[&["key", "create", "default"], arguments].concat()).await;
        let key = created["key"].as_str().unwrap().to_owned();
        shop.service.answers(&key, "the key to be known", |answer| answer.status != 401).await;
        key
    };
    let read = key(&["--scope", "read", "--origin", &origin]).await;
    let elsewhere = key(&["--scope", "write", "--origin", "https://shop.example"]).await;
    let ask = async |method: &str, path: &str, key: &str, body: &str| {
        let ask = format!(
            "fetch('{}{path}', {{ method: '{method}', headers: {{ Authorization: 'Bearer {key}' }}, {body} }})
               .then(async (answer) => `${{answer.status}} ${{await answer.text()}}`)",
            shop.url()
        );
        shop.browser.value::<String>(&ask).await
    };
    let event = r#"body: '{"name":"n"}'"#;
    let usage = ask("GET", "/v1/usage", &read, "").await;
    assert!(usage.starts_with("200 ") && usage.contains("\"total\""), "{usage}");
    for (answer, says) in [
        (ask("GET", "/v1/usage", &shop.web_key, "").await, "scope read or full"),
        (ask("POST", "/v1/events", &read, event).await, "scope write or full"),
        (ask("POST", "/v1/events", &elsewhere, event).await, "Origin of the request is none of them"),
        (ask("POST", "/v1/nothing", &shop.web_key, event).await, "there is no such path"),
    ] {
        assert!(answer.starts_with("40") && answer.contains(says), "{says}: {answer}");
    }
    let accepted = ask("POST", "/v1/events", &shop.web_key, event).await;
    assert!(accepted.starts_with("202 "), "{accepted}");
}
