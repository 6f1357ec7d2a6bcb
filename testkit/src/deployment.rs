//! The servers of the stream, PostgreSQL, and Millrace's programs connected to them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::postgres::Postgres;
use crate::program::{Program, ProgramOutput};
use crate::readiness::wait_until_ready;
use crate::redis::Redis;
use crate::redis_cluster::RedisCluster;

/// How long an API process may take until it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The servers of the stream.
pub trait StreamServers {
    /// The value of `REDIS_URL`.
    fn stream_url(&self) -> String;
}

impl StreamServers for Redis {
    fn stream_url(&self) -> String {
        self.url()
    }
}

impl StreamServers for RedisCluster {
    fn stream_url(&self) -> String {
        self.url()
    }
}

/// The servers of a deployment. Tests start the programs they need on them.
#[derive(Debug)]
pub struct Deployment<S = Redis> {
    pub redis: S,
    pub postgres: Postgres,
}

impl Deployment {
    /// Starts both servers and creates the tables.
    ///
    /// # Panics
    /// When a server does not start or `millrace migrate` fails.
    pub async fn start() -> Self {
        Self::start_on(Redis::start()).await
    }
}

impl<S: StreamServers> Deployment<S> {
    /// Starts PostgreSQL and the servers of the stream, and creates the tables.
    ///
    /// # Panics
    /// When a server does not start or `millrace migrate` fails.
    pub async fn start_on(redis: impl Future<Output = S>) -> Self {
        let (redis, postgres) = tokio::join!(redis, Postgres::start());
        let deployment = Self { redis, postgres };
        deployment.millrace(&["migrate"]).await;
        deployment
    }

    /// Runs `millrace` with these arguments and returns its standard output.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn millrace(&self, arguments: &[&str]) -> String {
        let output = self.try_millrace(arguments).await;
        assert_eq!(output.code, Some(0), "millrace {arguments:?}: {output:?}");
        output.stdout
    }

    pub async fn try_millrace(&self, arguments: &[&str]) -> ProgramOutput {
        let (redis, database) = (self.redis.stream_url(), self.postgres.url());
        Program::run("millrace", arguments, &[("REDIS_URL", &redis), ("DATABASE_URL", &database)]).await
    }

    /// Starts `ingest-api` with these additional variables and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready within a minute.
    pub async fn start_api(&self, variables: &[(&str, &str)]) -> (Program, SocketAddr) {
        let variables = [&[("LISTEN_ADDR", "127.0.0.1:0")], variables].concat();
        let mut program = self.start_program("ingest-api", &variables);
        let address = program.address().await;
        wait_until_ready(address, READY_DEADLINE).await;
        (program, address)
    }

    /// Starts `stream-worker` with these additional variables and waits until it drains the stream.
    ///
    /// # Panics
    /// When it does not start to drain within a minute.
    pub async fn start_worker(&self, variables: &[(&str, &str)]) -> Program {
        let mut program = self.start_program("stream-worker", variables);
        program.wait_for_line("lanes are draining").await;
        program
    }

    fn start_program(&self, name: &str, more: &[(&str, &str)]) -> Program {
        let (redis, database) = (self.redis.stream_url(), self.postgres.url());
        let variables =
            [("REDIS_URL", redis.as_str()), ("DATABASE_URL", &database), ("METRICS_ADDR", "127.0.0.1:0")];
        Program::start(name, &[&variables, more].concat())
    }
}
