//! Which node of a cluster holds the slot of each shard.

use std::collections::HashMap;

use redis::{Cmd, RedisError, Value};

use super::answer::{Answer, Place, is_unknown_command, items, pairs, text};
use super::slot::slot_of_shard;
use crate::redis::error::describe;

/// Nodes that are remembered in order to ask them later, at most.
const NODES_MAX: usize = 16;

/// The questions to a node: the map of the slots, and how current the node is.
pub(super) fn questions() -> [Cmd; 2] {
    ["SLOTS", "INFO"].map(|word| {
        let mut command = redis::cmd("CLUSTER");
        command.arg(word);
        command
    })
}

/// The answer of the node that was asked at `asked`.
///
/// # Errors
/// Why the node has no map that can be used, in words.
pub(super) fn read(
    asked: &Place,
    shards: u16,
    [slots, info]: [Result<Value, RedisError>; 2],
) -> Result<Answer, String> {
    let slots = slots.map_err(|error| match is_unknown_command(&error) {
        true => {
            "a server of REDIS_URL is not a node of a cluster: name nodes of the cluster there, or begin \
                 REDIS_URL with redis: or redis+sentinel:"
                .to_owned()
        }
        false => describe(&error),
    })?;
    // A user may lack the right to ask for it.
    let info = info.map(|info| text(&info)).unwrap_or_default();
    let info: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
    if info.get("cluster_state") == Some(&"fail") {
        return Err("the cluster does not serve its slots (cluster_state is fail)".to_owned());
    }
    let epoch = info.get("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let ranges: Vec<Range> = items(&slots).iter().filter_map(|range| Range::read(asked, range)).collect();
    let primaries = (0..shards).map(|shard| {
        let slot = slot_of_shard(shard);
        let range = ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
        range
            .and_then(|range| range.nodes.first().cloned().flatten())
            .ok_or_else(|| "the cluster has no node for the shard's slot".to_owned())
    });
    let mut answer = Answer { epoch, primaries: primaries.collect(), nodes: Vec::new() };
    for node in ranges.into_iter().flat_map(|range| range.nodes).flatten() {
        if answer.nodes.len() < NODES_MAX && !answer.nodes.contains(&node) {
            answer.nodes.push(node);
        }
    }
    Ok(answer)
}

/// Slots, and the nodes that have them: first the primary. `None` is a node whose place is not known.
struct Range {
    first: u16,
    last: u16,
    nodes: Vec<Option<Place>>,
}

impl Range {
    fn read(asked: &Place, range: &Value) -> Option<Self> {
        let (bounds, nodes) = items(range).split_at_checked(2)?;
        let bound = |at: usize| text(&bounds[at]).parse().ok();
        let nodes = nodes.iter().map(|node| place(asked, node)).collect();
        Some(Self { first: bound(0)?, last: bound(1)?, nodes })
    }
}

/// `[host, port, id, [name, value, …]]`. Without a host it is that of the node that was asked. `?` stands for
/// a host name that the node was not given; its address follows in the list.
fn place(asked: &Place, node: &Value) -> Option<Place> {
    let fields = items(node);
    let port: u16 = text(fields.get(1)?).parse().ok()?;
    let host = match text(fields.first()?).as_str() {
        "" => asked.host.clone(),
        "?" => pairs(fields.get(3)?).into_iter().find(|(name, _)| name == "ip")?.1,
        host => host.to_owned(),
    };
    (port != 0).then_some(Place { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(word: &str) -> Value {
        Value::BulkString(word.as_bytes().to_vec())
    }

    fn node(host: Value, port: i64, more: &[&str]) -> Value {
        let more = more.iter().map(|text| word(text)).collect();
        Value::Array(vec![host, Value::Int(port), word("id"), Value::Array(more)])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    fn asked() -> Place {
        Place { host: "seed".to_owned(), port: 1 }
    }

    fn at(host: &str, port: u16) -> Result<Place, String> {
        Ok(Place { host: host.to_owned(), port })
    }

    #[test]
    fn every_shard_gets_the_primary_of_its_slot_for_every_form_of_its_host() {
        // The slots of shards 0 to 4: 11097, 15224, 2843, 6970, 11229.
        let slots = Value::Array(vec![
            range(0, 5_000, vec![node(word("::1"), 7, &[]), node(word("replica"), 8, &[])]),
            range(5_001, 7_000, vec![node(word("?"), 9, &["ip", "10.0.0.9"])]),
            range(11_097, 11_097, vec![node(Value::Nil, 10, &[])]),
            range(11_200, 11_300, vec![node(word(""), 11, &["hostname", "n"])]),
        ]);
        let info = word("cluster_state:ok\r\ncluster_current_epoch:12\r\n");
        let answer = read(&asked(), 5, [Ok(slots), Ok(info)]).unwrap();
        assert_eq!(answer.epoch, 12);
        let missing = Err("the cluster has no node for the shard's slot".to_owned());
        let expected = vec![at("seed", 10), missing, at("::1", 7), at("10.0.0.9", 9), at("seed", 11)];
        assert_eq!(answer.primaries, expected);
        assert_eq!(answer.nodes.len(), 5, "replicas can be asked, too");
    }

    #[test]
    fn a_node_that_serves_no_slots_does_not_answer_for_the_cluster() {
        let info = word("cluster_state:fail\r\n");
        let refused = read(&asked(), 1, [Ok(Value::Array(Vec::new())), Ok(info)]).unwrap_err();
        assert!(refused.contains("does not serve its slots"), "{refused}");
    }
}
