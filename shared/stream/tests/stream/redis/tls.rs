//! TLS to every server that the address leads to, also to those that Sentinels and nodes of a cluster name,
//! and what an operator reads when only one side speaks TLS.

use std::path::{Path, PathBuf};

use millrace_stream::SharedStream;
use millrace_stream::redis::{RedisOptions, RedisSource, RedisStream, RedisTls};
use redis::Value;
use testkit::{Authority, Redis, RedisCluster, Sentinels, eventually, free_port};

use super::load::{LONG, admitted_to, prepare_shards};
use super::reasons::becomes_the_reason;
use super::run;

const NAMES: &str = "IP:127.0.0.1";

fn source(url: &str, ca: Option<PathBuf>) -> RedisSource {
    RedisSource { tls: RedisTls { ca, client: None }, ..RedisSource::from(url) }
}

fn open(url: &str, ca: Option<PathBuf>, shards: u16) -> SharedStream {
    RedisStream::new(RedisOptions { shards, ..RedisOptions::new(source(url, ca)) }).unwrap()
}

async fn assert_reason(url: &str, ca: Option<&Path>, expected: &[&str]) {
    let stream = open(url, ca.map(Path::to_owned), 1);
    becomes_the_reason(&stream, url, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_that_sentinels_name_is_reached_over_tls_before_and_after_a_failover() {
    let authority = Authority::create();
    let certificate = authority.sign("server", NAMES);
    let mut sentinels = Sentinels::start_secured(1, &certificate, &authority.ca()).await;
    let url = sentinels.url();
    assert!(url.starts_with("rediss+sentinel://"), "{url}");
    let stream = open(&url, Some(authority.ca()), 1);
    prepare_shards(&stream, 1).await;
    admitted_to(&stream, 0).await;
    sentinels.node(0).pause_writes(1).await;
    sentinels.node_mut(0).kill().await;
    eventually(LONG, "a failover", async || (sentinels.primary().await == 1).then_some(())).await;
    admitted_to(&stream, 0).await;
    assert_eq!(run(sentinels.node(1), &["XLEN", "{s0}:events"]).await, Value::Int(2));
    // Another CA is refused at the Sentinels already.
    let other = Authority::create();
    let expected = ["no Sentinel answered", "is not signed by a CA that is trusted: set REDIS_TLS_CA"];
    assert_reason(&url, Some(&other.ca()), &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_of_a_cluster_is_reached_over_tls() {
    const SHARDS: u16 = 4;
    let authority = Authority::create();
    let certificate = authority.sign("server", NAMES);
    let cluster = RedisCluster::start_secured(3, 0, &certificate, &authority.ca()).await;
    // One node is enough: it names the others.
    let url = format!("rediss+cluster://127.0.0.1:{}", cluster.node(0).tls_port().unwrap());
    let stream = open(&url, Some(authority.ca()), SHARDS);
    prepare_shards(&stream, SHARDS).await;
    let mut masters = Vec::new();
    for shard in 0..SHARDS {
        admitted_to(&stream, shard).await;
        masters.push(cluster.master_of(&format!("{{s{shard}}}")).await);
    }
    assert!((0..3).all(|master| masters.contains(&master)), "{masters:?}");
    let other = Authority::create();
    let expected = ["no node of the cluster answered", "set REDIS_TLS_CA to the file of its CA"];
    assert_reason(&url, Some(&other.ca()), &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_tls_at_a_port_with_tls_and_the_reverse_name_the_beginning_of_the_url() {
    let authority = Authority::create();
    let certificate = authority.sign("server", NAMES);
    let (port, ca) = (free_port().to_string(), authority.ca());
    let redis = Redis::start_with(&certificate.redis_settings(&port, &ca, "no")).await;
    let clear = redis.port();
    let without_tls = "if this port speaks TLS, begin REDIS_URL with rediss in place of redis";
    let with_tls = "if this port does not speak TLS, begin REDIS_URL with redis in place of rediss";
    assert_reason(&format!("redis://127.0.0.1:{port}/0"), None, &[without_tls]).await;
    assert_reason(&format!("rediss://127.0.0.1:{clear}/0"), Some(&ca), &[with_tls]).await;

    let sentinels = Sentinels::start_secured(0, &certificate, &ca).await;
    let tls_url = sentinels.url();
    let clear_url = tls_url.replace("rediss+", "redis+");
    assert_reason(&clear_url, None, &["no Sentinel answered", without_tls]).await;
    let at_clear = format!("rediss+sentinel://127.0.0.1:{}/m", sentinels.sentinel_port(0));
    assert_reason(&at_clear, Some(&ca), &["no Sentinel answered", with_tls]).await;

    let cluster = RedisCluster::start_secured(1, 0, &certificate, &ca).await;
    let clear_url = cluster.url().replace("rediss+", "redis+");
    assert_reason(&clear_url, None, &["no node of the cluster answered", without_tls]).await;
    let at_clear = format!("rediss+cluster://127.0.0.1:{}", cluster.node(0).port());
    assert_reason(&at_clear, Some(&ca), &["no node of the cluster answered", with_tls]).await;
}
