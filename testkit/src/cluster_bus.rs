//! The bus of a Redis Cluster, over which the nodes watch each other, through a proxy that can cut one node
//! off. Clients and replication do not use the bus.
//!
//! Each node announces a port of the proxy as its own. A connection is recognized by both ends: the port says
//! to which node it leads, and the address of the sender from which node it comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Proxies in front of all nodes. Dropping it ends every connection between them.
#[derive(Debug)]
pub(crate) struct ClusterBus {
    /// Until the connections are served.
    listeners: Vec<TcpListener>,
    ports: Vec<u16>,
    cut_off: watch::Sender<Option<usize>>,
    serving: JoinSet<()>,
}

impl ClusterBus {
    /// Opens a port for each of so many nodes.
    ///
    /// # Panics
    /// When no port is free.
    pub(crate) async fn open(nodes: usize) -> Self {
        let (mut listeners, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..nodes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
            ports.push(listener.local_addr().expect("a bound listener has an address").port());
            listeners.push(listener);
        }
        Self { listeners, ports, cut_off: watch::Sender::new(None), serving: JoinSet::new() }
    }

    /// The settings of a node: the port that it announces, and the address from which it connects.
    pub(crate) fn settings(&self, node: usize) -> [(&'static str, String); 4] {
        [
            ("cluster-announce-ip", Ipv4Addr::LOCALHOST.to_string()),
            ("cluster-announce-bus-port", self.port(node).to_string()),
            ("bind-source-addr", address_of(node).to_string()),
            // Redis takes only 127.0.0.1 for this machine.
            ("protected-mode", "no".to_owned()),
        ]
    }

    /// The port at which the others find this node.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.ports[node]
    }

    /// Begins to pass connections on, to the ports at which the nodes listen.
    pub(crate) fn serve(&mut self, ports: &[u16]) {
        for (node, (listener, port)) in self.listeners.drain(..).zip(ports).enumerate() {
            self.serving.spawn(serve(listener, node, *port, self.cut_off.subscribe()));
        }
    }

    /// From now on nothing passes from or to this node, until [`ClusterBus::heal`]. Connections stay open.
    pub(crate) fn cut_off(&self, node: usize) {
        self.cut_off.send_replace(Some(node));
    }

    pub(crate) fn heal(&self) {
        self.cut_off.send_replace(None);
    }
}

/// Every node has an address of its own on this machine.
fn address_of(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(node + 1).expect("a cluster of a test is small"))
}

async fn serve(listener: TcpListener, node: usize, port: u16, cut_off: watch::Receiver<Option<usize>>) {
    // Dropping the set ends the connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, from)) = listener.accept().await {
        connections.spawn(pass_on(stream, from.ip(), node, port, cut_off.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Passes everything on while neither end is cut off. What was sent meanwhile is lost, so the connection then
/// ends.
async fn pass_on(
    mut stream: TcpStream,
    from: IpAddr,
    node: usize,
    port: u16,
    mut cut_off: watch::Receiver<Option<usize>>,
) {
    let concerns = |cut_off: &Option<usize>| {
        cut_off.is_some_and(|cut| cut == node || from == IpAddr::V4(address_of(cut)))
    };
    let pass = async {
        if let Ok(mut to) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            // An error is an end of the connection.
            drop(copy_bidirectional(&mut stream, &mut to).await);
        }
    };
    let mut until_cut = cut_off.clone();
    tokio::select! {
        biased;
        cut = until_cut.wait_for(concerns) => drop(cut),
        () = pass => return,
    }
    // The proxy may have been dropped.
    drop(cut_off.wait_for(|cut_off| !concerns(cut_off)).await);
}
