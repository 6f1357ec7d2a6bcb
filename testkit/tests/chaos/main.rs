//! The chaos proxy applies weather and traps exactly when it should, with real servers and the clients of the
//! product.

mod commands;
mod transactions;
mod weather;

use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, RedisResult};
use testkit::Redis;
use testkit::chaos::{ChaosProxy, Wire};

const DEADLINE: Duration = Duration::from_secs(30);
/// How long a client waits for a response that must not arrive.
const PATIENCE: Duration = Duration::from_millis(300);

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn redis_behind_proxy() -> (Redis, ChaosProxy) {
    let redis = Redis::start().await;
    let proxy = ChaosProxy::start(local(redis.port()), Wire::Redis).await;
    (redis, proxy)
}

/// Connects to a Redis without a response timeout.
async fn connect(address: SocketAddr, protocol: ProtocolVersion) -> RedisResult<MultiplexedConnection> {
    let info = format!("redis://{address}").into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(protocol);
    let client = Client::open(info.set_redis_settings(settings))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn connect_to(proxy: &ChaosProxy) -> MultiplexedConnection {
    connect(proxy.address(), ProtocolVersion::RESP2).await.unwrap()
}

async fn increment(connection: &MultiplexedConnection) -> RedisResult<u64> {
    redis::cmd("INCR").arg("counter").query_async(&mut connection.clone()).await
}

/// The value of the counter, read without the proxy.
async fn counter(redis: &Redis) -> u64 {
    let counter: Option<u64> =
        redis::cmd("GET").arg("counter").query_async(&mut redis.connect().await).await.unwrap();
    counter.unwrap_or(0)
}

/// Whether `answer` does not arrive within [`PATIENCE`].
async fn stays_silent(answer: impl Future) -> bool {
    tokio::time::timeout(PATIENCE, answer).await.is_err()
}
