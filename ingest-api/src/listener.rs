//! The listener for clients. It must never be opened before every setting is checked.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted; the system may have a lower limit (`net.core.somaxconn`). More
/// clients than this at once have to try again, which their system does after a second.
const BACKLOG: u32 = 4_096;

/// Listens on this address.
///
/// # Errors
/// When the address cannot be used.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As TcpListener::bind: a restart need not wait for connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// More than the 128 that the standard library lets wait, fewer than the usual limits of the system.
    const CLIENTS: usize = 500;

    #[tokio::test]
    async fn many_clients_connect_at_once_without_being_accepted() {
        let system_max = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let system_max: usize = system_max.ok().and_then(|max| max.trim().parse().ok()).unwrap_or(128);
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // No one accepts, so the next client after a full queue would wait forever.
        let mut clients = Vec::new();
        for _ in 0..CLIENTS.min(system_max) {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(clients.len(), CLIENTS.min(system_max));
    }

    #[tokio::test]
    async fn both_families_of_addresses_can_be_listened_on_and_a_taken_port_is_an_error() {
        let listener = listen("[::1]:0".parse().unwrap()).unwrap();
        assert!(listener.local_addr().unwrap().is_ipv6());
        let taken = listen(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
