//! What is sent, when it is repeated, and when it is given up.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::eventually;

use crate::endpoint::{Endpoint, Reply};
use crate::installation::{Installation, PATIENCE};
use crate::site::{ALLOW, Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_sent_once_and_signed_on_files() {
    let endpoint = Endpoint::start().await;
    a_notification_is_sent_once_and_signed(Site::on_files(&endpoint).await, &endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_sent_once_and_signed_on_servers() {
    let endpoint = Endpoint::start().await;
    a_notification_is_sent_once_and_signed(Site::on_servers(&endpoint).await, &endpoint).await;
}

async fn a_notification_is_sent_once_and_signed(site: Site, endpoint: &Endpoint) {
    site.reach_one().await;
    let sent = endpoint.wait_for(1).await.remove(0);
    assert_eq!(sent.line, "POST /in?x=1");
    assert_eq!(sent.header("content-type"), "application/json");
    assert_eq!(sent.header("host"), endpoint.address.to_string());
    assert!(sent.header("user-agent").starts_with("millrace/"), "{sent:?}");
    sent.verify(&site.secret);
    let body = sent.json();
    assert_eq!(body["type"], "threshold.crossed");
    let data = &body["data"];
    for (name, value) in [
        ("project", "shop"),
        ("threshold", "two"),
        ("kind", "meter"),
        ("meter", "calls"),
        ("subject", "acme"),
        ("period", "day"),
        ("threshold_value", "2"),
        ("value", "2"),
    ] {
        assert_eq!(data[name], value, "{body}");
    }
    let delivered = site.log("the delivery", |newest| newest["state"] == "delivered").await;
    assert_eq!((&delivered["attempts"], &delivered["status"]), (&json!(1), &json!(204)));
    assert_eq!((&delivered["error"], &delivered["next_attempt_at"]), (&Value::Null, &Value::Null));
    assert_eq!(delivered["webhook_id"], sent.header("webhook-id"));

    site.retry(&delivered).await;
    let again = endpoint.wait_for(2).await.remove(1);
    assert_eq!((again.header("webhook-id"), &again.body), (sent.header("webhook-id"), &sent.body));
    again.verify(&site.secret);
    assert!(!site.service.program.log().contains(&site.secret), "no secret is logged");
}

/// Each cause ends with an attempt that an operator asks for, so that the test does not wait for the pauses.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_fails_is_repeated_and_says_why() {
    let endpoint = Endpoint::start().await;
    let elsewhere = Endpoint::start().await;
    let site = Site::on_files(&endpoint).await;
    let redirect = |status| {
        Reply::Head(format!(
            "HTTP/1.1 {status} X\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            elsewhere.url()
        ))
    };
    endpoint.reply(Reply::status(500));
    endpoint.reply(Reply::status(503));
    site.reach_one().await;
    // The attempts after the first come by themselves.
    endpoint.wait_for(2).await;
    let mut failed = site.fails_with("the answer was 503").await;
    assert_eq!(failed["attempts"], 2);
    for (reply, error) in [
        (Reply::Close, "the connection ended without a valid answer"),
        (redirect(302), "the answer was 302; redirects are not followed"),
        (redirect(307), "the answer was 307; redirects are not followed"),
        (Reply::EndlessHead, "the connection ended without a valid answer"),
        (Reply::Head("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), "the connection ended without a valid answer"),
        (Reply::Hang, "no answer within 10 s"),
        (Reply::status(404), "the answer was 404"),
    ] {
        endpoint.reply(reply);
        site.retry(&failed).await;
        failed = site.fails_with(error).await;
        assert_eq!(failed["state"], "pending", "{failed}");
    }
    assert_eq!(elsewhere.connections(), 0);
    endpoint.reply(Reply::EndlessBody);
    site.retry(&failed).await;
    site.log("the delivery", |newest| newest["state"] == "delivered" && newest["status"] == 200).await;
    let ids: BTreeSet<_> =
        endpoint.requests().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 1, "every attempt has the same id");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honored_and_an_endpoint_that_is_gone_gets_nothing_more() {
    let endpoint = Endpoint::start().await;
    let site = Site::on_files(&endpoint).await;
    endpoint
        .reply(Reply::Head("HTTP/1.1 429 X\r\nretry-after: 4000\r\ncontent-length: 0\r\n\r\n".to_owned()));
    site.reach_one().await;
    let limited = site.fails_with("the answer was 429").await;
    let second = |name: &str| {
        let text = limited[name].as_str().expect("a time");
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).expect("a time")
    };
    assert!(
        second("next_attempt_at") - second("attempted_at") >= time::Duration::seconds(3_999),
        "{limited}"
    );
    endpoint.reply(Reply::status(410));
    site.retry(&limited).await;
    let gone = site.fails_with("the endpoint wants no more notifications").await;
    assert_eq!(gone["state"], "dead");
    let failed = site.installation.text(&["notifications", "shop", "--failed"]).await;
    assert!(failed.contains("dead after 1 attempt: the answer was 410"), "{failed}");
    site.retry(&gone).await;
    site.log("the delivery", |newest| newest["state"] == "delivered").await;
    let failed = site.installation.text(&["notifications", "shop", "--failed"]).await;
    assert_eq!(failed.trim(), "No notifications.");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_connects_to_an_address_that_is_not_public_unless_its_host_is_allowed() {
    let endpoint = Endpoint::start().await;
    let mut site = Site::start(Installation::on_files(), &[], &endpoint.url()).await;
    site.reach_one().await;
    let refused = site.fails_with("the host 127.0.0.1 has the address 127.0.0.1, which is not public").await;
    let port = endpoint.address.port();
    // Each host is shown in another way than the one before, so that the log shows its own attempt.
    for (host, shown) in [
        ("0.0.0.0", "0.0.0.0"),
        ("127.1", "127.0.0.1"),
        ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        ("2130706433", "127.0.0.1"),
        ("localhost", "localhost"),
    ] {
        site.set_url(&format!("http://{host}:{port}/")).await;
        site.retry(&refused).await;
        let named = site.fails_with(&format!("the host {shown} has the address")).await;
        assert!(
            named["error"].as_str().is_some_and(|error| error.contains("which is not public")),
            "{named}"
        );
    }
    assert_eq!(endpoint.connections(), 0);
    site.service.program.kill().await;
    site.restart(&[("NOTIFY_ALLOW_HOSTS", "LocalHost")]).await;
    site.retry(&refused).await;
    endpoint.wait_for(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_during_a_delivery_leaves_it_to_the_next_with_the_same_id() {
    let endpoint = Endpoint::start().await;
    let mut site = Site::on_files(&endpoint).await;
    endpoint.reply(Reply::Hang);
    site.reach_one().await;
    let first = endpoint.wait_for(1).await.remove(0);
    site.service.program.kill().await;
    site.restart(&ALLOW).await;
    let second = endpoint.wait_for(2).await.remove(1);
    assert_eq!((second.header("webhook-id"), &second.body), (first.header("webhook-id"), &first.body));
    let delivered = site.log("the delivery", |newest| newest["state"] == "delivered").await;
    assert_eq!(delivered["attempts"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_deliver_each_notification_once() {
    let endpoint = Endpoint::start().await;
    let site = Site::on_servers(&endpoint).await;
    let _workers = [site.another_worker(), site.another_worker()];
    let customers: Vec<_> = (0..40).map(|number| format!("customer {number}")).collect();
    site.reach(&customers).await;
    endpoint.wait_for(customers.len()).await;
    eventually(PATIENCE, "all deliveries", async || {
        let log = site.installation.json(&["notifications", "shop", "--limit", "100"]).await;
        let all = log["notifications"].as_array().expect("a list");
        let delivered = all.iter().filter(|one| one["state"] == "delivered" && one["attempts"] == 1).count();
        if delivered == customers.len() { Ok(()) } else { Err(format!("{delivered} are delivered")) }
    })
    .await;
    let requests = endpoint.requests();
    let ids: BTreeSet<_> = requests.iter().map(|request| request.header("webhook-id")).collect();
    assert_eq!((requests.len(), ids.len()), (customers.len(), customers.len()));
    let subjects: BTreeSet<_> = requests
        .iter()
        .map(|request| request.json()["data"]["subject"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(subjects.len(), customers.len());
}
