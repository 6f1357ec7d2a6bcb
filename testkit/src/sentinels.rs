//! A real Redis with replicas and three Sentinels that promote one of them when it fails.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use redis::Value;
use rustix::process::Signal;

use crate::authority::Certificate;
use crate::daemon::{Daemon, Endpoint, Server};
use crate::eventually::eventually;
use crate::process::{Pairs, mortal};
use crate::redis::{Redis, query};

const NAME: &str = "millrace";
const SENTINELS: usize = 3;
const QUORUM: usize = 2;
/// How long the primary may be silent before it counts as down, in milliseconds.
const DOWN_AFTER_MS: u64 = 1_000;
/// Longer than a test, in milliseconds.
const NEVER_DOWN_MS: &str = "3600000";
/// After a failover that failed, the next begins after twice this time, in milliseconds.
const FAILOVER_TIMEOUT_MS: u64 = 3_000;
const DEADLINE: Duration = Duration::from_secs(120);

/// A primary, its replicas, and their Sentinels. The servers have numbers, the first primary 0, and keep
/// them. Dropping it kills every process.
#[derive(Debug)]
pub struct Sentinels {
    nodes: Vec<Redis>,
    sentinels: Vec<Daemon<SentinelServer>>,
}

#[derive(Debug)]
struct SentinelServer {
    tls_port: Option<u16>,
}

impl Server for SentinelServer {
    const NAME: &'static str = "redis-sentinel";
    const LOG: &'static str = "sentinel.log";

    fn command(&self, endpoint: &Endpoint) -> Command {
        let mut command = mortal(&crate::versions::redis_server());
        command.arg(endpoint.folder.path().join("sentinel.conf")).arg("--sentinel");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    async fn answers(&self, endpoint: &Endpoint, pid: i32) -> Result<(), String> {
        let info = text(&query(endpoint.port, &["INFO", "server"]).await?);
        let is_this_server = info.lines().any(|line| line == format!("process_id:{pid}"));
        if is_this_server { Ok(()) } else { Err("another server listens on this port".to_owned()) }
    }
}

impl SentinelServer {
    /// Writes the configuration, which the Sentinel keeps up to date itself.
    fn prepare(endpoint: &Endpoint, primary: u16, tls: Pairs) -> Self {
        let folder = endpoint.folder.path();
        let log = endpoint.log_file::<Self>();
        let tls_port =
            tls.iter().find(|(name, _)| name == "tls-port").and_then(|(_, port)| port.parse().ok());
        let tls: String = tls.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        let conf = format!(
            "{tls}port {}\nbind 127.0.0.1\ndir {}\nlogfile {}\n\
             sentinel monitor {NAME} 127.0.0.1 {primary} {QUORUM}\n\
             sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n",
            endpoint.port,
            folder.display(),
            log.display(),
        );
        fs::write(folder.join("sentinel.conf"), conf).expect("a server's folder is writable");
        Self { tls_port }
    }
}

impl Sentinels {
    /// Starts a primary with this many replicas and three Sentinels, and waits until all of them know each
    /// other. `settings` are added to those of every Redis.
    ///
    /// # Panics
    /// When a server cannot be started or the Sentinels do not find each other.
    pub async fn start(replicas: usize, settings: &[(&str, &str)]) -> Self {
        let settings = [&[("repl-diskless-sync-delay", "0")], settings].concat();
        let nodes = join_all((0..=replicas).map(|_| Redis::start_with(&settings))).await;
        Self::watch(nodes, Pairs::new).await
    }

    /// As [`Sentinels::start`], with TLS between all servers and for clients: with this certificate, which
    /// `ca` has signed.
    ///
    /// # Panics
    /// See [`Sentinels::start`].
    pub async fn start_secured(replicas: usize, certificate: &Certificate, ca: &Path) -> Self {
        let starting = (0..=replicas).map(|_| async {
            let own = Redis::secured(certificate, ca);
            let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let settings: Vec<_> = own.chain([("repl-diskless-sync-delay", "0")]).collect();
            Redis::start_with(&settings).await
        });
        // A Sentinel has no cluster.
        let of_sentinel = || {
            Redis::secured(certificate, ca).into_iter().filter(|(name, _)| name != "tls-cluster").collect()
        };
        Self::watch(join_all(starting).await, of_sentinel).await
    }

    /// Makes the first server the primary of the others, and starts Sentinels with these settings for TLS.
    async fn watch(nodes: Vec<Redis>, tls: impl Fn() -> Pairs) -> Self {
        let primary = nodes[0].peer_port();
        for node in &nodes[1..] {
            // Not a setting, so that a server that restarts is a primary, as it was set up.
            node.run(&["REPLICAOF", "127.0.0.1", &primary.to_string()]).await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..SENTINELS {
            let prepare = |endpoint: &Endpoint| SentinelServer::prepare(endpoint, primary, tls());
            sentinels.push(Daemon::start(prepare).await);
        }
        let all = Self { nodes, sentinels };
        all.settled().await;
        all
    }

    /// `redis+sentinel://` with all Sentinels and the name of the primary. `rediss+sentinel://` when they
    /// have TLS.
    pub fn url(&self) -> String {
        let port = |at: &Daemon<SentinelServer>| at.server.tls_port.unwrap_or_else(|| at.port());
        let sentinels: Vec<_> = self.sentinels.iter().map(|at| format!("127.0.0.1:{}", port(at))).collect();
        let scheme = if self.nodes[0].tls_port().is_some() { "rediss" } else { "redis" };
        format!("{scheme}+sentinel://{}/{NAME}", sentinels.join(","))
    }

    /// The port of a Sentinel.
    pub fn sentinel_port(&self, at: usize) -> u16 {
        self.sentinels[at].port()
    }

    /// SIGSTOP: the Sentinel keeps its connections and answers nothing.
    pub fn pause_sentinel(&mut self, at: usize) {
        self.sentinels[at].signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume_sentinel(&mut self, at: usize) {
        self.sentinels[at].signal(Signal::CONT);
    }

    /// SIGKILL; returns when the Sentinel has ended.
    pub async fn kill_sentinel(&mut self, at: usize) {
        self.sentinels[at].kill().await;
    }

    pub fn node(&self, at: usize) -> &Redis {
        &self.nodes[at]
    }

    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// To kill, pause, resume or restart it. After a restart it is a primary again, until the Sentinels make
    /// it a replica.
    pub fn node_mut(&mut self, at: usize) -> &mut Redis {
        &mut self.nodes[at]
    }

    /// The server that the Sentinels call the primary: the newest answer of those that answer.
    ///
    /// # Panics
    /// When none answers for two minutes.
    pub async fn primary(&self) -> usize {
        eventually(DEADLINE, "an answer of a Sentinel", async || {
            let answers = join_all(self.sentinels.iter().map(|at| answer(at.port()))).await;
            let (_, port) = answers.into_iter().flatten().max_by_key(|(epoch, _)| *epoch)?;
            self.nodes.iter().position(|node| node.peer_port() == port)
        })
        .await
    }

    /// Makes every Sentinel name this server the primary and changes none of the servers, as after a failover
    /// that the old primary has not noticed.
    ///
    /// # Panics
    /// When a Sentinel refuses.
    pub async fn name_primary(&self, at: usize) {
        let (port, quorum) = (self.nodes[at].peer_port().to_string(), QUORUM.to_string());
        for sentinel in &self.sentinels {
            for words in [
                &["SENTINEL", "REMOVE", NAME][..],
                &["SENTINEL", "MONITOR", NAME, "127.0.0.1", &port, &quorum],
            ] {
                query(sentinel.port(), words).await.expect("a running Sentinel obeys");
            }
        }
    }

    /// Lets no Sentinel promote another server any more. A slow machine is silent for longer than
    /// `DOWN_AFTER_MS`, and the Sentinels would promote the old primary again before it has the new data.
    ///
    /// # Panics
    /// When a Sentinel refuses.
    pub async fn end_failovers(&self) {
        for sentinel in &self.sentinels {
            let words = ["SENTINEL", "SET", NAME, "down-after-milliseconds", NEVER_DOWN_MS];
            query(sentinel.port(), &words).await.expect("a running Sentinel obeys");
        }
    }

    /// Waits until every Sentinel that answers knows all others and all replicas, and every replica that
    /// answers has the data of the primary.
    ///
    /// # Panics
    /// When that takes more than two minutes.
    pub async fn settled(&self) {
        let (sentinels, replicas) = (self.sentinels.len(), self.nodes.len() - 1);
        eventually(DEADLINE, "the Sentinels to know each other", async || {
            for sentinel in &self.sentinels {
                let Ok(info) = query(sentinel.port(), &["INFO", "sentinel"]).await else { continue };
                let info = text(&info);
                let line = info.lines().find(|line| line.starts_with("master0:")).unwrap_or_default();
                let known = format!(",slaves={replicas},sentinels={sentinels}");
                if !line.contains("status=ok") || !line.trim_end().ends_with(&known) {
                    return Err(line.to_owned());
                }
            }
            for node in &self.nodes {
                let Ok(info) = query(node.port(), &["INFO", "replication"]).await else { continue };
                if text(&info).contains("master_link_status:down") {
                    return Err("a replica waits for its primary".to_owned());
                }
            }
            Ok(())
        })
        .await;
    }
}

/// The epoch and the port of the primary, as this Sentinel knows them.
async fn answer(port: u16) -> Option<(u64, u16)> {
    let Ok(Value::Array(address)) = query(port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await else {
        return None;
    };
    let Ok(Value::Array(fields)) = query(port, &["SENTINEL", "MASTER", NAME]).await else { return None };
    let fields: Vec<String> = fields.iter().map(text).collect();
    let at = fields.iter().position(|field| field == "config-epoch")?;
    Some((fields.get(at + 1)?.parse().ok()?, text(address.get(1)?).parse().ok()?))
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}
