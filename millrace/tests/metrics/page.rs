//! A page of metrics, read as Prometheus reads it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use testkit::eventually;
use testkit::http::get;

use crate::installation::PATIENCE;

pub struct MetricsPage {
    pub text: String,
}

pub struct Sample {
    pub series: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl MetricsPage {
    pub async fn scrape(address: SocketAddr) -> Self {
        let answer = get(address, "/metrics", &[]).await;
        assert_eq!(answer.status, 200);
        Self { text: String::from_utf8(answer.body.to_vec()).unwrap() }
    }

    /// Waits until a series has at least this value, and returns the page.
    pub async fn when(address: SocketAddr, series: &str, at_least: f64) -> Self {
        eventually(PATIENCE, &format!("{series} to be {at_least}"), async || {
            let page = Self::scrape(address).await;
            match page.value(series) {
                Some(value) if value >= at_least => Ok(page),
                value => Err(format!("{value:?}")),
            }
        })
        .await
    }

    /// The value of a series, named as on the page: `name{label="value"}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn samples(&self) -> Vec<Sample> {
        let lines = self.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(Sample::read).collect()
    }
}

impl Sample {
    fn read(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        // A path in a label may contain braces.
        let (series, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap().trim_end_matches('"');
        let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { series: series.to_owned(), labels, value: value.parse().unwrap() }
    }
}
