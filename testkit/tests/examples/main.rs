//! The clients in `examples/` and the snippets of the documentation, each run against a real server. A proxy
//! in front of the server loses an answer and refuses a request, to test the retries of the clients.

mod client;
mod service;
mod snippets;

use client::Client;
use service::Service;
use testkit::{HttpProxy, RequestFault};

/// What each example sends.
const EVENTS: u64 = 3;

#[tokio::test]
async fn the_curl_example_stores_each_event_once() {
    stores_each_event_once(&Client::curl()).await;
}

#[tokio::test]
async fn the_python_example_stores_each_event_once() {
    stores_each_event_once(&Client::python(&[])).await;
}

#[tokio::test]
async fn the_python_example_stores_each_event_once_when_it_compresses() {
    stores_each_event_once(&Client::python(&["--gzip"])).await;
}

#[tokio::test]
async fn the_node_example_stores_each_event_once() {
    stores_each_event_once(&Client::node()).await;
}

#[tokio::test]
async fn the_rust_example_stores_each_event_once() {
    stores_each_event_once(&Client::rust().await).await;
}

#[tokio::test]
async fn every_example_fails_and_does_not_retry_when_its_key_is_refused() {
    let service = Service::start().await;
    for client in [Client::curl(), Client::python(&[]), Client::node(), Client::rust().await] {
        let proxy = HttpProxy::start(service.address(), &[]).await;
        let finished = client.run(proxy.address(), "mk_unknown").await;
        assert_ne!(finished.code, Some(0), "{client:?}: {finished:?}");
        let shown = format!("{}{}", finished.stdout, finished.stderr);
        assert!(shown.contains("unauthenticated"), "{client:?} shows the answer: {finished:?}");
        assert_eq!(proxy.counts().received, 1, "{client:?}: {finished:?}");
    }
    assert_eq!(service.usage().await.events, 0);
}

#[tokio::test]
async fn every_example_says_that_it_needs_a_key() {
    let service = Service::start().await;
    for client in [Client::curl(), Client::python(&[]), Client::node(), Client::rust().await] {
        let finished = client.run(service.address(), "").await;
        assert_ne!(finished.code, Some(0), "{client:?}: {finished:?}");
        assert!(finished.stderr.contains("set MILLRACE_KEY"), "{client:?}: {finished:?}");
    }
}

#[tokio::test]
async fn the_readmes_first_events_are_stored() {
    for (language, client) in snippets::first_events() {
        let service = Service::start().await;
        let finished = client.run(service.address(), &service.key()).await;
        assert_eq!(finished.code, Some(0), "the {language} snippet: {finished:?}");
        service.wait_for_usage(1, 0).await;
    }
}

#[tokio::test]
async fn the_documented_signature_is_what_its_calculation_prints() {
    let service = Service::start().await;
    let (client, promised) = snippets::known_signature();
    let finished = client.run(service.address(), "").await;
    assert_eq!(finished.stdout.trim(), promised, "{finished:?}");
}

#[tokio::test]
async fn the_documented_signed_request_is_stored() {
    let service = Service::start().await;
    let (key, secret) = service.signed_key().await;
    let finished = snippets::signed_request().signing_with(&secret).run(service.address(), &key).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    service.wait_for_usage(1, 0).await;
}

/// Runs a client twice. The answer to its first request is lost after the events were accepted, and its
/// second request is refused.
async fn stores_each_event_once(client: &Client) {
    let service = Service::start().await;
    let proxy = HttpProxy::start(
        service.address(),
        &[(1, RequestFault::DropAnswer), (2, RequestFault::TooManyRequests(1))],
    )
    .await;
    for run in 1..=2 {
        let finished = client.run(proxy.address(), &service.key()).await;
        assert_eq!(finished.code, Some(0), "run {run}: {finished:?}");
        let answer: serde_json::Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("run {run} prints the answer: {error}: {finished:?}"));
        assert_eq!(answer["accepted"], EVENTS, "run {run}");
    }
    let done = proxy.counts();
    assert_eq!((done.received, done.dropped, done.refused), (4, 1, 1), "{done:?}");
    // Three requests were passed on: the one whose answer was lost, its repetition, and the second run.
    service.wait_for_usage(EVENTS, 2 * EVENTS).await;
}
