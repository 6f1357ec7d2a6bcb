//! The commands for thresholds.

use serde_json::json;

use crate::endpoint::Endpoint;
use crate::installation::Installation;
use crate::site::{ALLOW, Site};

const URL: [&str; 2] = ["--url", "https://hooks.example/in"];

#[tokio::test(flavor = "multi_thread")]
async fn thresholds_are_set_listed_shown_and_deleted_on_files() {
    let endpoint = Endpoint::start().await;
    thresholds_are_set_listed_shown_and_deleted(Site::on_files(&endpoint).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thresholds_are_set_listed_shown_and_deleted_on_servers() {
    let endpoint = Endpoint::start().await;
    thresholds_are_set_listed_shown_and_deleted(Site::on_servers(&endpoint).await).await;
}

async fn thresholds_are_set_listed_shown_and_deleted(site: Site) {
    let commands = &site.installation;
    let set =
        async |more: &[&str]| commands.json(&[&["threshold", "set", "shop"][..], more, &URL].concat()).await;
    let quota = set(&["most", "--quota", "80%"]).await;
    assert_eq!((&quota["kind"], &quota["quota_percent"]), (&json!("quota"), &json!(80)));
    assert_eq!(quota["signing_secret"], json!(null), "the project has one");
    let meter = ["acme", "--meter", "calls", "--subject", "acme", "--per", "month", "--value", "12.50"];
    let meter = set(&meter).await;
    assert_eq!((&meter["subject"], &meter["value"]), (&json!("acme"), &json!("12.5")));
    let limit = set(&["near", "--meter", "calls", "--per", "day", "--limit", "90%"]).await;
    assert_eq!((&limit["kind"], &limit["limit_percent"]), (&json!("limit"), &json!(90)));
    let listed = commands.text(&["threshold", "list", "shop"]).await;
    for line in [
        "12.5 calls of acme in one month",
        "80% of the quota",
        "2 calls of each subject in one day",
        "90% of the limit of calls of each subject in one day",
    ] {
        assert!(listed.contains(line), "{listed}");
    }
    assert!(commands.text(&["threshold", "show", "shop", "most"]).await.contains(URL[1]));
    commands.text(&["threshold", "delete", "shop", "acme"]).await;
    commands.fails(&["threshold", "show", "shop", "acme"], 1, "there is no threshold named \"acme\"").await;
    commands.fails(&["threshold", "delete", "shop", "tow"], 1, "did you mean \"two\"?").await;
    let rotated = commands.json(&["threshold", "rotate-secret", "shop", "--overlap", "7d"]).await;
    assert!(
        rotated["signing_secret"].as_str().is_some_and(|new| new.starts_with("whsec_") && new != site.secret)
    );
    commands.fails(&["notifications", "retry", "7"], 1, "there is no notification 7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_that_is_not_usable_is_refused_with_the_argument() {
    let endpoint = Endpoint::start().await;
    let site = Site::on_files(&endpoint).await;
    let commands = &site.installation;
    commands
        .text(&[
            "meter",
            "create",
            "shop",
            "last",
            "--event",
            "a",
            "--aggregation",
            "latest",
            "--value",
            "$.n",
        ])
        .await;
    for (more, code, text) in [
        (&["x", "--quota", "0%"][..], 2, "--quota"),
        (&["x", "--quota", "101"], 2, "from 1% to 100%"),
        (&["x", "--quota", "5", "--value", "5"], 2, "--value"),
        (&["x", "--quota", "5", "--subject", "a"], 2, "--subject"),
        (&["x"], 2, "--quota"),
        (&["x", "--meter", "calls"], 2, "--value"),
        (&["x", "--limit", "5"], 2, "--meter"),
        (&["x", "--meter", "calls", "--limit", "5", "--value", "1"], 2, "--limit"),
        (&["x", "--meter", "calls", "--limit", "0"], 2, "from 1% to 100%"),
        (&["x", "--meter", "last", "--limit", "5"], 1, "cannot be limited"),
        (&["x", "--meter", "calls", "--value", "0"], 2, "greater than 0"),
        (&["x", "--meter", "calls", "--value", "1e3"], 2, "plain notation"),
        (&["x", "--meter", "calls", "--value", "1", "--per", "week"], 2, "hour, day, month"),
        (&["x", "--meter", "cals", "--value", "1"], 1, "did you mean \"calls\"?"),
        (&["x", "--meter", "last", "--value", "1"], 1, "rise and fall"),
        (&["X y", "--quota", "5"], 1, "the name \"X y\""),
    ] {
        let arguments = [&["threshold", "set", "shop"][..], more, &URL].concat();
        commands.fails(&arguments, code, text).await;
    }
    for (url, text) in [
        ("hooks.example/in", "not an address"),
        ("redis://127.0.0.1:6379", "https:// or http://"),
        ("https://user:password@hooks.example/", "no user name"),
    ] {
        let arguments = ["threshold", "set", "shop", "x", "--quota", "5", "--url", url];
        commands.fails(&arguments, 2, text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_list_of_allowed_hosts_ends_the_program_with_its_name() {
    let installation = Installation::on_files();
    assert_eq!(ALLOW[0].0, "NOTIFY_ALLOW_HOSTS");
    let finished = installation.run_with(&[], &[("NOTIFY_ALLOW_HOSTS", "http://hooks.internal")]).await;
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(
        finished.stderr.contains("NOTIFY_ALLOW_HOSTS=\"http://hooks.internal\": expected hosts"),
        "{finished:?}"
    );
}
