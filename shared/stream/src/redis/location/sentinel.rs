//! Which server the Sentinels call the primary.
//!
//! `SENTINEL GET-MASTER-ADDR-BY-NAME` names the promoted server as soon as it takes over; `SENTINEL MASTER`
//! adds the epoch of that decision.

use redis::{Cmd, RedisError, Value};

use super::answer::{Answer, Place, is_unknown_command, items, pairs, text};
use crate::redis::error::describe;

/// The questions to a Sentinel: the address, and what its epoch is in.
pub(super) fn questions(name: &str) -> [Cmd; 2] {
    ["GET-MASTER-ADDR-BY-NAME", "MASTER"].map(|word| {
        let mut command = redis::cmd("SENTINEL");
        command.arg(word).arg(name);
        command
    })
}

/// The answer for all shards, which have one primary.
///
/// # Errors
/// Why the Sentinel names no primary, in words.
pub(super) fn read(
    name: &str,
    shards: u16,
    [address, master]: [Result<Value, RedisError>; 2],
) -> Result<Answer, String> {
    let address = address.map_err(|error| match is_unknown_command(&error) {
        true => "a server of REDIS_URL is not a Sentinel: name the Sentinels there, or begin REDIS_URL with \
                 redis:"
            .to_owned(),
        false => describe(&error),
    })?;
    let unknown = || format!("the Sentinels do not know the primary {name}");
    let [host, port] = items(&address) else { return Err(unknown()) };
    let port = text(port).parse().map_err(|_| unknown())?;
    let place = Place { host: text(host), port };
    // A user without the right to ask for it has no protection against a Sentinel that was cut off.
    let fields = master.map(|master| pairs(&master)).unwrap_or_default();
    let epoch = fields.iter().find(|(name, _)| name == "config-epoch");
    let epoch = epoch.and_then(|(_, epoch)| epoch.parse().ok()).unwrap_or(0);
    Ok(Answer { epoch, primaries: vec![Ok(place); usize::from(shards)], nodes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Value {
        Value::Array(words.iter().map(|word| Value::BulkString(word.as_bytes().to_vec())).collect())
    }

    #[test]
    fn the_address_of_the_primary_is_read_with_the_epoch_of_the_decision() {
        let master = || Ok(list(&["name", "m", "config-epoch", "7", "quorum", "2"]));
        let answer = read("m", 2, [Ok(list(&["::1", "6379"])), master()]).unwrap();
        let place = Place { host: "::1".to_owned(), port: 6_379 };
        assert_eq!((answer.epoch, answer.primaries), (7, vec![Ok(place.clone()), Ok(place)]));
        let refused = read("m", 1, [Ok(Value::Nil), master()]).unwrap_err();
        assert_eq!(refused, "the Sentinels do not know the primary m");
    }
}
