//! Every kind of weather in front of Redis.

use std::io::ErrorKind;

use redis::AsyncCommands;
use testkit::chaos::{ChaosProxy, Weather, Wire};
use testkit::{Redis, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::*;

/// Connects and sends PING without waiting for the reply.
async fn ping(proxy: &ChaosProxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    stream
}

async fn read_error(mut stream: TcpStream) -> ErrorKind {
    let mut byte = [0];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut byte)).await.unwrap().unwrap_err().kind()
}

async fn gets_pong(stream: &mut TcpStream) -> bool {
    let mut pong = [0; 7];
    stream.read_exact(&mut pong).await.is_ok_and(|_| pong == *b"+PONG\r\n")
}

#[tokio::test]
async fn fair_weather_passes_and_counts_everything() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let mut stream = ping(&proxy).await;
    assert!(gets_pong(&mut stream).await);
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.refused, counts.reset), (1, 0, 0));
    assert_eq!((counts.bytes_up, counts.bytes_down, counts.bytes_lost), (6, 7, 0));
}

#[tokio::test]
async fn a_mute_server_executes_commands() {
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
async fn a_half_closed_server_still_executes_commands() {
    let (redis, proxy) = redis_behind_proxy().await;
    let mut stream = ping(&proxy).await;
    assert!(gets_pong(&mut stream).await);
    proxy.set(Weather::HalfClose);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the stream ends cleanly");
    stream.write_all(b"INCR counter\r\n").await.unwrap();
    eventually(DEADLINE, "the counter to be incremented", async || counter(&redis).await == 1).await;
}

#[tokio::test]
async fn a_black_hole_never_delivers_what_it_has_swallowed() {
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
    assert_eq!(read_error(new).await, ErrorKind::ConnectionReset);
    assert_eq!(increment(&connect_to(&proxy).await).await.unwrap(), 1, "nothing was delivered late");
    assert!(proxy.counts().bytes_lost > 6);
}

#[tokio::test]
async fn a_black_hole_hides_the_close_of_the_other_side() {
    let (mut redis, proxy) = redis_behind_proxy().await;
    let mut stream = ping(&proxy).await;
    assert!(gets_pong(&mut stream).await);
    proxy.set(Weather::BlackHole);
    redis.kill().await;
    assert!(stays_silent(stream.peek(&mut [0])).await);
}

#[tokio::test]
async fn a_connection_that_has_lost_nothing_survives_any_weather() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    for weather in [Weather::BlackHole, Weather::Mute, Weather::Delay { ms: 1, jitter_ms: 1 }] {
        proxy.set(weather);
        // An additional client observes that the weather is in effect.
        let observer = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(stays_silent(observer.peek(&mut [0])).await, "{weather:?}");
        proxy.heal();
    }
    assert_eq!(increment(&connection).await.unwrap(), 1);
}

#[tokio::test]
async fn slice_throttle_and_delay_change_no_byte() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let mut connection = connect_to(&proxy).await;
    let value: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    for weather in
        [Weather::Slice, Weather::Throttle { bytes_per_s: 2_000_000 }, Weather::Delay { ms: 5, jitter_ms: 5 }]
    {
        proxy.set(weather);
        let () = connection.set("value", &value).await.unwrap();
        let received: Vec<u8> = connection.get("value").await.unwrap();
        assert!(received == value, "{weather:?}");
        let () = connection.del("value").await.unwrap();
    }
}

#[tokio::test]
async fn delayed_and_fully_throttled_replies_arrive_after_healing() {
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
async fn refuse_resets_open_and_new_connections() {
    let (_redis, proxy) = redis_behind_proxy().await;
    let mut open = ping(&proxy).await;
    assert!(gets_pong(&mut open).await);
    proxy.set(Weather::Refuse);
    assert_eq!(read_error(open).await, ErrorKind::ConnectionReset);
    let new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(read_error(new).await, ErrorKind::ConnectionReset);
    proxy.heal();
    assert!(gets_pong(&mut ping(&proxy).await).await);
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.refused, counts.reset), (2, 1, 1));
}

#[tokio::test]
async fn reset_all_works_in_any_weather() {
    let (_redis, proxy) = redis_behind_proxy().await;
    for weather in [Weather::Fair, Weather::Mute, Weather::BlackHole, Weather::Throttle { bytes_per_s: 0 }] {
        proxy.heal();
        let mut open = ping(&proxy).await;
        assert!(gets_pong(&mut open).await);
        proxy.set(weather);
        open.write_all(b"PING\r\n").await.unwrap();
        proxy.reset_all();
        let mut pong = [0; 8];
        let ending = tokio::time::timeout(DEADLINE, open.read_exact(&mut pong)).await.unwrap();
        assert_eq!(ending.unwrap_err().kind(), ErrorKind::ConnectionReset, "{weather:?}");
    }
}

#[tokio::test]
async fn a_flapping_network_alternates_between_refusing_and_passing() {
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
            Ok(mut stream) => stream.write_all(b"PING\r\n").await.is_ok() && gets_pong(&mut stream).await,
            Err(_) => false,
        })
        .await;
    }
    proxy.heal();
    let connection = connect_to(&proxy).await;
    assert_eq!(increment(&connection).await.unwrap(), 1);
}

#[tokio::test]
async fn a_proxy_keeps_its_port_while_its_server_restarts() {
    let (mut redis, proxy) = redis_behind_proxy().await;
    let mut open = ping(&proxy).await;
    assert!(gets_pong(&mut open).await);
    redis.kill().await;
    assert!(open.read_exact(&mut [0]).await.is_err(), "the proxy passes on that the server is gone");
    assert_eq!(read_error(ping(&proxy).await).await, ErrorKind::ConnectionReset);
    redis.restart().await;
    assert!(gets_pong(&mut ping(&proxy).await).await);
}

#[tokio::test]
async fn dropping_the_proxy_closes_its_connections() {
    let redis = Redis::start().await;
    let proxy = ChaosProxy::start(local(redis.port()), Wire::Plain).await;
    let mut open = ping(&proxy).await;
    assert!(gets_pong(&mut open).await);
    let address = proxy.address();
    drop(proxy);
    assert!(open.read_exact(&mut [0]).await.is_err());
    eventually(DEADLINE, "the port to be free", async || TcpStream::connect(address).await.is_err()).await;
}
