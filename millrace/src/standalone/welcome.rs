//! The texts at start and stop: the addresses, the first key, and a command that sends an event.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use millrace_store::{NewKey, Store, StoreError};

use crate::output::counted;

/// The project that the first start creates.
const FIRST_PROJECT: &str = "default";
const FIRST_PLAN: &str = "enterprise";

/// Creates a project when there is none, and returns its key.
pub(super) async fn create_first_project(store: &dyn Store) -> Result<Option<NewKey>, StoreError> {
    if !store.projects().await?.is_empty() {
        return Ok(None);
    }
    match store.create_project(FIRST_PROJECT, FIRST_PLAN, None, false).await {
        Ok((_, key)) => Ok(Some(key)),
        // Another process starts at this moment, too, and was faster.
        Err(StoreError::Invalid(_)) if !store.projects().await?.is_empty() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) struct Welcome {
    /// What the service runs on, in words.
    pub(super) backend: String,
    /// The address that clients connect to.
    pub(super) address: SocketAddr,
    pub(super) metrics: SocketAddr,
    /// Whether the status page is served.
    pub(super) has_page: bool,
    /// The key of the project that this start created.
    pub(super) first_key: Option<NewKey>,
}

impl Welcome {
    pub(super) fn print(&self) {
        let url = format!("http://{}", self.address);
        let key = self.first_key.as_ref().map(|first| first.key.as_str());
        let mut text = format!("Millrace {}, {}\n\n", env!("CARGO_PKG_VERSION"), self.backend);
        let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<9}{value}\n"));
        if self.has_page {
            // Browsers never send the part after #. The page reads the key there and clears the address bar.
            line("Page", &key.map_or_else(|| format!("{url}/"), |key| format!("{url}/#key={key}")));
        }
        line("Events", &format!("{url}/v1/events"));
        line("Metrics", &format!("http://{}/metrics", self.metrics));
        match key {
            Some(key) => {
                line("Project", &format!("{FIRST_PROJECT}, on plan {FIRST_PLAN}"));
                line("Key", key);
                line("", "Save it now: only its hash is stored, and it is not shown again.");
                text.push_str(&format!(
                    "\nSend an event:\n\n\
                     curl -i {url}/v1/events -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
                     -d '{{\"events\":[{{\"name\":\"signed_up\",\"subject\":\"user-1\",\"properties\":{{\"plan\":\"pro\"}}}}]}}'\n"
                ));
            }
            None => line("Key", "not stored, only its hash; `millrace key create PROJECT` creates another"),
        }
        text.push_str("\nCtrl-C stops it. Accepted events are kept.\n");
        print(&text);
    }
}

/// Prints how many accepted events wait to be stored; `None` is unknown.
pub(super) fn print_goodbye(waiting: Option<u64>) {
    print(&match waiting {
        Some(0) => "Stopped. Everything accepted is stored.".to_owned(),
        Some(waiting) => {
            format!("Stopped. {} on disk will be stored after the next start.", counted(waiting, "accepted event"))
        }
        None => "Stopped. Whether everything accepted is stored is unknown: the stream is unreachable. Events that \
                 wait in it will be stored after the next start."
            .to_owned(),
    });
}

/// An address that a browser on this machine can open. No client can connect to "any address".
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A closed standard output is no reason to stop serving.
fn print(text: &str) {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            tracing::warn!(%error, "cannot write to standard output");
        }
        Ok(()) | Err(_) => {}
    }
}
