//! What a newcomer reads: a key, a line to paste, and where to look.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use millrace_store::{NewKey, Store, StoreError};

use crate::output::grouped;

/// The project that the first start makes.
const FIRST_PROJECT: &str = "default";
const FIRST_PLAN: &str = "enterprise";

/// Makes a project with a key when there is none at all.
pub(super) async fn first_project(store: &dyn Store) -> Result<Option<NewKey>, StoreError> {
    if !store.projects().await?.is_empty() {
        return Ok(None);
    }
    store.create_project(FIRST_PROJECT, FIRST_PLAN, None, false).await.map(|(_, key)| Some(key))
}

/// What whoever started us is told.
pub(super) struct Welcome {
    /// What the service runs on, in words.
    pub(super) place: String,
    /// Where clients connect.
    pub(super) address: SocketAddr,
    /// Where Prometheus does.
    pub(super) metrics: SocketAddr,
    /// Whether there is a status page.
    pub(super) has_page: bool,
    /// The key of the project that was made just now.
    pub(super) first: Option<NewKey>,
}

impl Welcome {
    /// Says what there is, and how to begin.
    pub(super) fn say(&self) {
        let url = format!("http://{}", self.address);
        let key = self.first.as_ref().map(|first| first.key.as_str());
        let mut text = format!("Millrace {}, {}\n\n", env!("CARGO_PKG_VERSION"), self.place);
        let mut line = |what: &str, said: &str| text.push_str(&format!("  {what:<9}{said}\n"));
        if self.has_page {
            // What follows the # is never sent: the page takes the key from there and clears the address bar.
            line("Page", &key.map_or_else(|| format!("{url}/"), |key| format!("{url}/#key={key}")));
        }
        line("Events", &format!("{url}/v1/events"));
        line("Metrics", &format!("http://{}/metrics", self.metrics));
        match key {
            Some(key) => {
                line("Project", &format!("{FIRST_PROJECT}, on plan {FIRST_PLAN}"));
                line("Key", key);
                line("", "Keep it now: only its hash is stored, and it is not shown again.");
                text.push_str(&format!(
                    "\nSend an event:\n\n\
                     curl -i {url}/v1/events -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
                     -d '{{\"events\":[{{\"name\":\"signed_up\",\"subject\":\"user-1\",\"properties\":{{\"plan\":\"pro\"}}}}]}}'\n"
                ));
            }
            None => {
                line("Key", "as before; `millrace key list` names them, `millrace key create` makes one more")
            }
        }
        text.push_str("\nCtrl-C stops it; what was accepted is kept.\n");
        print(&text);
    }
}

/// Says how it ended.
pub(super) fn say_goodbye(waiting: u64) {
    match waiting {
        0 => print("Stopped. Everything accepted is stored."),
        _ => {
            let waiting = grouped(waiting.into());
            print(&format!(
                "Stopped. {waiting} events wait on disk, and will be stored after the next start."
            ));
        }
    }
}

/// An address that a browser on this machine can open: nobody can connect to "any address".
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Whoever has closed our standard output wants no words, but may well want the service.
fn print(text: &str) {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            tracing::warn!(%error, "standard output: {error}");
        }
        Ok(()) | Err(_) => {}
    }
}
