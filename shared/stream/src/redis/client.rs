//! Clients of a server: one for shared connections, which RESP3 notifies when they are lost, and one for
//! connections with a single user.

use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2};
use redis::{Client, ConnectionInfo, ProtocolVersion, RedisError};

pub(super) fn shared(info: &ConnectionInfo) -> Result<Client, RedisError> {
    open(info, ProtocolVersion::RESP3)
}

pub(super) fn single(info: &ConnectionInfo) -> Result<Client, RedisError> {
    open(info, ProtocolVersion::RESP2)
}

fn open(info: &ConnectionInfo, protocol: ProtocolVersion) -> Result<Client, RedisError> {
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(5));
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(10));
    let settings = info.redis_settings().clone().set_protocol(protocol);
    Client::open(info.clone().set_tcp_settings(tcp).set_redis_settings(settings))
}
