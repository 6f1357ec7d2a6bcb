//! Starts a system: servers, tables, projects, proxies and programs, in this order.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use testkit::chaos::{ChaosProxy, Wire};
use testkit::oracle::{Findings, Meters, Targets, Watch};
use testkit::{Postgres, Program, ProgramOutput, wait_until_ready};

use super::{Layout, RedisServers, System};
use crate::drill::Drill;
use crate::node::{Node, SOON};
use crate::operator::Operator;

/// Settings that shorten the intervals of the product's periodic work to those of a drill.
const QUICK: &[(&str, &str)] =
    &[("TAKEOVER_IDLE_MS", "500"), ("UPKEEP_INTERVAL_MS", "500"), ("TRANSACTION_AGE_MAX_MS", "5000")];

type Variables = Vec<(String, String)>;

impl System {
    /// Starts everything and waits until it works.
    pub async fn start(drill: Drill, layout: Layout<'_>) -> Self {
        let (servers, postgres) = tokio::join!(
            RedisServers::start(layout.redis_layout, layout.redis),
            Postgres::start_options(layout.postgres)
        );
        let wire_api_redis = wire_to_redis(layout.proxy_api_redis, &servers).await;
        let wire_worker_redis = wire_to_redis(layout.proxy_worker_redis, &servers).await;
        let wire_worker_postgres = match layout.proxy_worker_postgres {
            true => Some(wire(postgres.port(), Wire::Postgres).await),
            false => None,
        };
        let operator = Operator::of_servers(&drill, &servers.url(), &postgres, layout.shards);
        operator.run(&["migrate"]).await;
        let (mut projects, probes) = operator.projects(layout.limited, layout.shards).await;
        if layout.customers {
            projects.push(operator.customers().await);
        }
        let standby = match layout.standby {
            true => Some(postgres.start_standby().await),
            false => None,
        };

        let redis_url = |proxy: &Option<ChaosProxy>| match proxy {
            Some(proxy) => format!("redis://{}/0", proxy.address()),
            None => servers.url(),
        };
        let direct_url =
            standby.as_ref().map_or_else(|| postgres.url(), |standby| postgres.url_with(standby));
        let database_url = match &wire_worker_postgres {
            Some(proxy) => format!("postgres://postgres@{}/postgres", proxy.address()),
            None => direct_url.clone(),
        };
        let mut api = common(&layout, &redis_url(&wire_api_redis), &direct_url);
        api.extend(owned(&[("LISTEN_ADDR", "127.0.0.1:0")]).into_iter().chain(owned(layout.api)));
        let mut worker = common(&layout, &redis_url(&wire_worker_redis), &database_url);
        worker.extend(owned(QUICK).into_iter().chain(owned(layout.worker)));
        let node = |name, variables: &Variables| Node::new(name, &drill, variables.clone());
        let mut system = Self {
            apis: (0..layout.apis).map(|_| node("ingest-api", &api)).collect(),
            workers: (0..layout.workers).map(|_| node("stream-worker", &worker)).collect(),
            watch: Some(Watch::start(Meters::Postgres(Box::new(postgres.config())))),
            wire_clients: None,
            targets: Targets::default(),
            shards: layout.shards,
            epochs: Vec::new(),
            wiped: false,
            named_losses: None,
            effects: BTreeMap::new(),
            findings: Findings::default(),
            drill,
            servers,
            postgres,
            standby,
            old_primary: None,
            wire_api_redis,
            wire_worker_redis,
            wire_worker_postgres,
            projects,
            probes,
        };
        system.start_nodes(layout.proxy_clients).await;
        system
    }

    async fn start_nodes(&mut self, proxy_clients: bool) {
        for node in self.apis.iter_mut().chain(&mut self.workers) {
            node.launch(&[]);
        }
        for node in self.apis.iter_mut().chain(&mut self.workers) {
            node.ready().await;
        }
        if proxy_clients {
            let address = self.apis[0].address().await;
            // The upstream of a proxy is fixed, so the API keeps its address in later runs.
            self.apis[0].set("LISTEN_ADDR", &address.to_string());
            let proxy = ChaosProxy::start(address, Wire::Plain).await;
            self.targets.set(vec![proxy.address()]);
            self.wire_clients = Some(proxy);
        } else {
            self.aim().await;
        }
        for address in self.addresses().await {
            wait_until_ready(address, SOON).await;
        }
        self.epochs = self.read_epochs().await;
    }

    /// Directs the clients to the APIs that run now.
    pub async fn aim(&mut self) {
        if self.wire_clients.is_none() {
            let addresses = self.addresses().await;
            self.targets.set(addresses);
        }
    }

    /// The addresses of the APIs that run now.
    pub async fn addresses(&mut self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for api in &mut self.apis {
            if api.is_running() {
                addresses.push(api.address().await);
            }
        }
        addresses
    }

    /// Waits until this API accepts batches.
    pub async fn wait_until_ready(&mut self, api: usize) {
        wait_until_ready(self.apis[api].address().await, SOON).await;
    }

    async fn read_epochs(&self) -> Vec<String> {
        let mut epochs = Vec::new();
        for shard in 0..self.shards {
            let mut redis = self.servers.connect(shard).await;
            let epoch = redis::cmd("GET").arg(format!("{{s{shard}}}:epoch")).query_async(&mut redis).await;
            epochs.push(epoch.expect("a running system has an epoch"));
        }
        epochs
    }

    /// Runs a command of `millrace`, which must succeed.
    pub async fn operate(&self, arguments: &[&str]) {
        self.operator().run(arguments).await;
    }

    /// Starts a command of `millrace`, which the drill may kill.
    pub fn start_operating(&self, arguments: &[&str]) -> Program {
        self.operator().start(arguments)
    }

    /// Runs `millrace audit`, however it ends.
    pub async fn audit(&self, options: &[&str]) -> ProgramOutput {
        self.operator().finished(&[&["audit"], options].concat()).await
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::of_servers(&self.drill, &self.servers.url(), &self.postgres, self.shards)
    }
}

async fn wire(port: u16, wire: Wire) -> ChaosProxy {
    ChaosProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), wire).await
}

async fn wire_to_redis(wanted: bool, servers: &RedisServers) -> Option<ChaosProxy> {
    match servers {
        RedisServers::Single(redis) if wanted => Some(wire(redis.port(), Wire::Redis).await),
        _ => None,
    }
}

fn owned(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn common(layout: &Layout<'_>, redis_url: &str, database_url: &str) -> Variables {
    let shards = layout.shards.to_string();
    owned(&[
        ("REDIS_URL", redis_url),
        ("DATABASE_URL", database_url),
        ("METRICS_ADDR", "127.0.0.1:0"),
        ("STREAM_SHARDS", &shards),
    ])
}
