//! The texts at start and stop: the addresses, the first key, and a command that sends an event.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use millrace_event::policy::KeyScope;
use millrace_store::{KeyOptions, NewKey, PolicyChange, Store, StoreError};

use crate::output::counted;

/// The project that the first start creates.
const FIRST_PROJECT: &str = "default";
const FIRST_PLAN: &str = "enterprise";

/// The keys of the first project.
pub(super) struct FirstKeys {
    /// Does everything, for servers.
    full: NewKey,
    /// Sends events only: a key in a web page is public.
    web: NewKey,
}

/// Creates a project when there is none, and returns its keys. Only this start knows their texts: the store
/// has their hashes.
pub(super) async fn create_first_project(store: &dyn Store) -> Result<Option<FirstKeys>, StoreError> {
    if !store.projects().await?.is_empty() {
        return Ok(None);
    }
    let (policy, all) = (PolicyChange::default(), KeyOptions::default());
    let full = match store.create_project(FIRST_PROJECT, FIRST_PLAN, &policy, &all).await {
        Ok((_, key)) => key,
        // Another process starts at this moment, too, and was faster.
        Err(StoreError::Conflict(_)) if !store.projects().await?.is_empty() => return Ok(None),
        Err(error) => return Err(error),
    };
    let write = KeyOptions { scope: KeyScope::Write, ..KeyOptions::default() };
    let web = store.create_key(FIRST_PROJECT, &write).await?;
    Ok(Some(FirstKeys { full, web }))
}

pub(super) struct Welcome {
    /// What the service runs on, in words.
    pub(super) backend: String,
    /// The address that clients connect to.
    pub(super) address: SocketAddr,
    pub(super) metrics: SocketAddr,
    /// Whether the status page is served.
    pub(super) has_page: bool,
    /// The keys of the project that this start created.
    pub(super) first_keys: Option<FirstKeys>,
}

impl Welcome {
    pub(super) fn print(&self) {
        let url = format!("http://{}", self.address);
        let key = self.first_keys.as_ref().map(|keys| (keys.full.key.as_str(), keys.web.key.as_str()));
        let mut text = format!("Millrace {}, {}\n\n", env!("CARGO_PKG_VERSION"), self.backend);
        let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<9}{value}\n"));
        if self.has_page {
            // Browsers never send the part after #. The page reads the key there and clears the address bar.
            line("Page", &key.map_or_else(|| format!("{url}/"), |(key, _)| format!("{url}/#key={key}")));
        }
        line("Events", &format!("{url}/v1/events"));
        line("Metrics", &format!("http://{}/metrics", self.metrics));
        match key {
            Some((key, web_key)) => {
                line("Project", &format!("{FIRST_PROJECT}, on plan {FIRST_PLAN}"));
                line("Key", key);
                line("", "for servers: it sends events, and reads usage and limits");
                line("Web key", web_key);
                line("", "for web pages, where everyone can read it: it only sends events");
                line("", "Save both now: only their hashes are stored, and they are not shown again.");
                text.push_str(&format!(
                    "\nSend an event:\n\n\
                     curl -i {url}/v1/events -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
                     -d '{{\"events\":[{{\"name\":\"signed_up\",\"subject\":\"user-1\",\"properties\":{{\"plan\":\"pro\"}}}}]}}'\n"
                ));
            }
            None => {
                line("Key", "not stored, only its hash; `millrace key create PROJECT` creates another,");
                line("", "with --scope write for web pages");
            }
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
