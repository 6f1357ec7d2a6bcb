//! What was posted, and what each report must say of it: accepted = stored + duplicate + dead + pending.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::eventually;

use crate::installation::PATIENCE;
use crate::site::{Letter, Site};
use crate::ways::Way;

/// More than a test posts.
const ALL: &str = "100000";

#[derive(Default, Debug)]
pub struct Counted {
    pub accepted: u64,
    pub good: u64,
    pub dead: u64,
    /// Dead calls by code.
    pub codes: BTreeMap<String, u64>,
}

impl Counted {
    /// Counts a call that was posted, of which `dead` is 1 if it became a dead letter.
    pub fn posted(&mut self, way: Way, dead: u64) {
        let good = u64::from(way != Way::Alone);
        self.good += good;
        self.accepted += good + 1;
        self.dead += dead;
    }

    /// The audit, the limits, the usage and the rejections agree with what was posted.
    pub async fn check(&self, site: &Site, balance: &Value) {
        let stored = self.accepted - self.dead;
        let sums =
            ["accepted", "stored", "duplicate", "dead", "pending"].map(|sum| balance[sum].as_u64().unwrap());
        assert_eq!(sums, [self.accepted, stored, 0, self.dead, 0], "{balance}");
        let limits = site.get("/v1/limits").await;
        assert_eq!(limits["events"]["used"], stored, "dead calls are refunded: {limits}");
        let usage = site.get("/v1/usage?window=month").await["total"].clone();
        assert_eq!((&usage["events"], &usage["dead"]), (&json!(stored), &json!(self.dead)), "{usage}");
        let by_api = site.get("/v1/rejections").await;
        assert_eq!(dead_by_code(&by_api), self.codes, "{by_api}");
        let by_command = site.installation.json(&["rejections", "--project", "shop"]).await;
        assert_eq!(dead_by_code(&by_command), self.codes, "{by_command}");
    }

    /// The commands for dead letters show each of them, with its text.
    pub async fn check_letters(&self, site: &Site, letters: &[Letter]) {
        let list = site.installation.json(&["dead-letters", "list", "--limit", ALL]).await;
        assert_eq!(list["total"], json!({"letters": self.dead, "events": self.dead}), "{list}");
        assert_eq!(list["letters"].as_array().map(Vec::len), Some(letters.len()));
        let mut shown = BTreeMap::new();
        for letter in letters.iter().filter(|letter| letter.payload.len() < 4_096) {
            if shown.insert(&letter.code, letter.id).is_some() {
                continue;
            }
            let whole = site.installation.json(&["dead-letters", "show", &letter.id.to_string()]).await;
            assert_eq!((&whole["code"], &whole["project"]), (&json!(letter.code), &json!("shop")), "{whole}");
            assert_eq!(whole["call"], String::from_utf8(letter.payload.clone()).unwrap(), "{whole}");
        }
        assert_eq!(shown.len(), self.codes.len(), "one of each code is shown");
        // The samples are written with the counts, and the last ones of them are kept.
        let samples = eventually(PATIENCE, "samples of dead calls", async || {
            let report = site.get("/v1/rejections?limit=100").await;
            let samples = report["samples"].as_array().unwrap().clone();
            if samples.is_empty() { Err(report.to_string()) } else { Ok(samples) }
        })
        .await;
        for sample in samples {
            let (kind, code) = (&sample["kind"], sample["code"].as_str().unwrap());
            assert!(
                kind == "dead" && self.codes.contains_key(code) && sample["payload"].is_string(),
                "{sample}"
            );
        }
    }
}

fn dead_by_code(report: &Value) -> BTreeMap<String, u64> {
    let mut codes = BTreeMap::new();
    for row in report["counts"].as_array().unwrap() {
        assert_eq!(row["kind"], "dead", "nothing else was refused: {report}");
        *codes.entry(row["code"].as_str().unwrap().to_owned()).or_default() += row["count"].as_u64().unwrap();
    }
    codes
}
