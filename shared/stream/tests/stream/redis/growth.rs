//! Calls whose cost must not grow with the number of projects more than it has to.

use millrace_event::ProjectCounters;
use millrace_event::plan::ProjectId;
use millrace_stream::SharedStream;
use millrace_stream::redis::{RedisOptions, RedisStream};
use testkit::Redis;

use super::run;
use crate::suite::*;

pub const PROJECTS: i64 = 20_000;
/// Most calls that may read the counters of them all.
const CALLS_MAX: u64 = 30;

/// Counters of their own for each project.
fn counters_of(project: i64) -> ProjectCounters {
    ProjectCounters {
        project: ProjectId(project),
        accepted: project.unsigned_abs() * 10,
        pending: project - 5,
        month: 202_611,
        used: project.unsigned_abs() * 3,
    }
}

/// Writes the counters of these projects, as admit.lua does.
pub async fn write_counters(redis: &Redis, projects: impl Iterator<Item = i64>, shards: u16) {
    let mut writes = redis::pipe();
    for project in projects {
        let counters = counters_of(project);
        let key = format!("{{s{}}}:project:{project}", ProjectId(project).shard(shards));
        writes.cmd("HSET").arg(key).arg("accepted").arg(counters.accepted).arg("pending");
        writes.arg(counters.pending).arg("month").arg(counters.month).arg("used").arg(counters.used).ignore();
    }
    writes.exec_async(&mut redis.connect().await).await.unwrap();
}

/// How often a command of this name was called.
async fn calls(redis: &Redis, name: &str) -> u64 {
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut redis.connect().await).await.unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn the_counters_of_twenty_thousand_projects_take_a_few_calls() {
    let redis = Redis::start_with(&[("appendfsync", "no")]).await;
    write_counters(&redis, 1..=PROJECTS, 1).await;
    let stream = super::open(&redis.url(), ENOUGH);
    connected(&stream).await;
    run(&redis, &["CONFIG", "RESETSTAT"]).await;
    // Not in the order of the keys.
    let projects: Vec<_> = (1..=PROJECTS).rev().map(ProjectId).collect();
    let counters = stream.counters(&projects).await.unwrap();
    assert!(counters.into_iter().eq((1..=PROJECTS).rev().map(counters_of)));
    let calls = calls(&redis, "eval").await;
    assert!((1..=CALLS_MAX).contains(&calls), "{calls} calls");
}

#[tokio::test]
async fn counters_of_projects_on_several_shards_come_in_the_order_of_the_question() {
    let redis = Redis::start().await;
    write_counters(&redis, 1..=50, 4).await;
    let options = RedisOptions { shards: 4, ..RedisOptions::new(redis.url()) };
    let stream: SharedStream = RedisStream::new(options).unwrap();
    connected(&stream).await;
    let asked = [50, 1, 49, 2, 999, 30, 31, 32, 33];
    let counters = stream.counters(&asked.map(ProjectId)).await.unwrap();
    let zeros = ProjectCounters { project: ProjectId(999), accepted: 0, pending: 0, month: 0, used: 0 };
    assert!(counters.into_iter().eq(asked.map(|project| if project == 999 {
        zeros
    } else {
        counters_of(project)
    })));
    assert_eq!(stream.counters(&[]).await.unwrap(), []);
}
