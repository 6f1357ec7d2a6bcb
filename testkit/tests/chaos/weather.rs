//! Every weather, with Redis behind it.

use std::io::ErrorKind;

use redis::AsyncCommands;
use testkit::chaos::{ChaosProxy, Weather, Wire};
use testkit::{Redis, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::*;

/// Connects and says PING, without waiting for an answer.
async fn ping(proxy: &ChaosProxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    stream
}

async fn how_it_ends(mut stream: TcpStream) -> ErrorKind {
    let mut byte = [0];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut byte)).await.unwrap().unwrap_err().kind()
}

async fn is_ponged(stream: &mut TcpStream) -> bool {
    let mut pong = [0; 7];
    stream.read_exact(&mut pong).await.is_ok_and(|_| pong == *b"+PONG\r\n")
}

#[tokio::test]
async fn in_fair_weather_everything_passes_and_is_counted() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let mut stream = ping(&proxy).await;
    assert!(is_ponged(&mut stream).await);
    let seen = proxy.counts();
    assert_eq!((seen.accepted, seen.refused, seen.reset), (1, 0, 0));
    assert_eq!((seen.bytes_up, seen.bytes_down, seen.bytes_lost), (6, 7, 0));
}

#[tokio::test]
async fn a_mute_server_executes_what_it_is_told() {
    let (redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    proxy.set(Weather::Mute);
    let mut answer = tokio::spawn(async move { increment(&connection).await });
    eventually(DEADLINE, "the counter to be incremented", async || counter(&redis).await == 1).await;
    assert!(stays_silent(&mut answer).await);
    proxy.set(Weather::Fair);
    assert!(stays_silent(&mut answer).await, "a lost reply stays lost");
    proxy.heal();
    assert!(answer.await.unwrap().is_err());
    assert_eq!(increment(&connect_to(&proxy).await).await.unwrap(), 2);
}

#[tokio::test]
async fn a_server_that_closes_its_half_still_executes_what_it_is_told() {
    let (redis, proxy) = redis_behind_proxy().await;
    let mut stream = ping(&proxy).await;
    assert!(is_ponged(&mut stream).await);
    proxy.set(Weather::HalfClose);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it ends in good order");
    stream.write_all(b"INCR counter\r\n").await.unwrap();
    eventually(DEADLINE, "the counter to be incremented", async || counter(&redis).await == 1).await;
}

#[tokio::test]
async fn into_a_black_hole_things_fall_for_ever() {
    let (redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    proxy.set(Weather::BlackHole);
    let mut answer = tokio::spawn(async move { increment(&connection).await });
    let new = ping(&proxy).await;
    assert!(stays_silent(&mut answer).await);
    assert!(stays_silent(new.peek(&mut [0])).await);
    assert_eq!(counter(&redis).await, 0);
    proxy.heal();
    assert!(answer.await.unwrap().is_err());
    assert_eq!(how_it_ends(new).await, ErrorKind::ConnectionReset);
    assert_eq!(increment(&connect_to(&proxy).await).await.unwrap(), 1, "nothing was delivered late");
    assert!(proxy.counts().bytes_lost > 6);
}

#[tokio::test]
async fn nobody_hears_through_a_black_hole_that_the_other_has_closed() {
    let (mut redis, proxy) = redis_behind_proxy().await;
    let mut stream = ping(&proxy).await;
    assert!(is_ponged(&mut stream).await);
    proxy.set(Weather::BlackHole);
    redis.kill().await;
    assert!(stays_silent(stream.peek(&mut [0])).await);
}

#[tokio::test]
async fn a_connection_that_lost_nothing_survives_the_weather() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    for weather in [Weather::BlackHole, Weather::Mute, Weather::Delay { ms: 1, jitter_ms: 1 }] {
        proxy.set(weather);
        // A client of its own sees it come into force.
        let witness = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(stays_silent(witness.peek(&mut [0])).await, "{weather:?}");
        proxy.heal();
    }
    assert_eq!(increment(&connection).await.unwrap(), 1);
}

#[tokio::test]
async fn slices_and_throttles_and_delays_change_no_byte() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let mut connection = connect_to(&proxy).await;
    let value: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    for weather in
        [Weather::Slice, Weather::Throttle { bytes_per_s: 2_000_000 }, Weather::Delay { ms: 5, jitter_ms: 5 }]
    {
        proxy.set(weather);
        let () = connection.set("value", &value).await.unwrap();
        let seen: Vec<u8> = connection.get("value").await.unwrap();
        assert!(seen == value, "{weather:?}");
        let () = connection.del("value").await.unwrap();
    }
}

#[tokio::test]
async fn what_is_delayed_or_throttled_to_nothing_comes_when_the_weather_clears() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    for (number, weather) in
        [(1, Weather::Delay { ms: 600_000, jitter_ms: 0 }), (2, Weather::Throttle { bytes_per_s: 0 })]
    {
        proxy.set(weather);
        let connection = connection.clone();
        let mut answer = tokio::spawn(async move { increment(&connection).await });
        assert!(stays_silent(&mut answer).await);
        proxy.heal();
        assert_eq!(answer.await.unwrap().unwrap(), number);
    }
}

#[tokio::test]
async fn refusal_resets_open_connections_and_new_ones() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let mut open = ping(&proxy).await;
    assert!(is_ponged(&mut open).await);
    proxy.set(Weather::Refuse);
    assert_eq!(how_it_ends(open).await, ErrorKind::ConnectionReset);
    let new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(how_it_ends(new).await, ErrorKind::ConnectionReset);
    proxy.heal();
    assert!(is_ponged(&mut ping(&proxy).await).await);
    let seen = proxy.counts();
    assert_eq!((seen.accepted, seen.refused, seen.reset), (2, 1, 1));
}

#[tokio::test]
async fn all_connections_can_be_reset_at_once_in_any_weather() {
    let (_redis, proxy) = redis_behind_proxy().await;
    for weather in [Weather::Fair, Weather::Mute, Weather::BlackHole, Weather::Throttle { bytes_per_s: 0 }] {
        proxy.heal();
        let mut open = ping(&proxy).await;
        assert!(is_ponged(&mut open).await);
        proxy.set(weather);
        open.write_all(b"PING\r\n").await.unwrap();
        proxy.reset_all();
        let mut pong = [0; 8];
        let ending = tokio::time::timeout(DEADLINE, open.read_exact(&mut pong)).await.unwrap();
        assert_eq!(ending.unwrap_err().kind(), ErrorKind::ConnectionReset, "{weather:?}");
    }
}

#[tokio::test]
async fn a_flapping_network_comes_and_goes() {
    let (_redis, proxy) = redis_behind_proxy().await;
    proxy.set(Weather::Flap { up_ms: 50, down_ms: 50 });
    for _ in 0..2 {
        let refused = proxy.counts().refused;
        eventually(DEADLINE, "a connection to be refused", async || {
            drop(TcpStream::connect(proxy.address()).await);
            proxy.counts().refused > refused
        })
        .await;
        eventually(DEADLINE, "an answer", async || match TcpStream::connect(proxy.address()).await {
            Ok(mut stream) => stream.write_all(b"PING\r\n").await.is_ok() && is_ponged(&mut stream).await,
            Err(_) => false,
        })
        .await;
    }
    proxy.heal();
    let connection = connect_to(&proxy).await;
    assert_eq!(increment(&connection).await.unwrap(), 1);
}

#[tokio::test]
async fn a_proxy_keeps_its_port_while_its_server_dies_and_comes_back() {
    let (mut redis, proxy) = redis_behind_proxy().await;
    let mut open = ping(&proxy).await;
    assert!(is_ponged(&mut open).await);
    redis.kill().await;
    assert!(open.read_exact(&mut [0]).await.is_err(), "the death is seen through the proxy");
    assert_eq!(how_it_ends(ping(&proxy).await).await, ErrorKind::ConnectionReset);
    redis.restart().await;
    assert!(is_ponged(&mut ping(&proxy).await).await);
}

#[tokio::test]
async fn connections_end_with_their_proxy() {
    let redis = Redis::start().await;
    let proxy = ChaosProxy::start(local(redis.port()), Wire::Plain).await;
    let mut open = ping(&proxy).await;
    assert!(is_ponged(&mut open).await);
    let address = proxy.address();
    drop(proxy);
    assert!(open.read_exact(&mut [0]).await.is_err());
    eventually(DEADLINE, "the port to be free", async || TcpStream::connect(address).await.is_err()).await;
}
