//! What a newcomer reads: a key, a line to paste, and where to look.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shared::store::{NewKey, Store, StoreError};

use crate::output::grouped;

/// The project that the first start makes.
const FIRST_PROJECT: &str = "default";
const FIRST_PLAN: &str = "enterprise";

/// Makes a project with a key when there is none at all.
pub(super) async fn first_project(store: &dyn Store) -> Result<Option<NewKey>, StoreError> {
    if !store.totals(false).await?.is_empty() {
        return Ok(None);
    }
    store.create_project(FIRST_PROJECT, FIRST_PLAN, None, false).await.map(|(_, key)| Some(key))
}

/// Says what there is, and how to begin.
pub(super) fn say(place: &str, address: SocketAddr, metrics: SocketAddr, first: Option<&NewKey>) {
    let url = format!("http://{address}");
    let mut text = format!(
        "Millrace {}, {}\n\n  Events   {url}/v1/events\n  Metrics  http://{metrics}/metrics\n",
        env!("CARGO_PKG_VERSION"),
        place,
    );
    match first {
        Some(NewKey { key, .. }) => text.push_str(&format!(
            "  Project  {FIRST_PROJECT}, on plan {FIRST_PLAN}\n  \
               Key      {key}\n           Keep it now: only its hash is stored, and it is not shown again.\n\n\
             Send an event:\n\n\
             curl -i {url}/v1/events -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
             -d '{{\"events\":[{{\"name\":\"signed_up\",\"subject\":\"user-1\",\"properties\":{{\"plan\":\"pro\"}}}}]}}'\n"
        )),
        None => text.push_str("\n  Another key: millrace key create PROJECT\n"),
    }
    text.push_str("\nCtrl-C stops it; what was accepted is kept.\n");
    print(&text);
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
