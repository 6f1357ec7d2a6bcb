//! What a Sentinel or a node of a cluster said about the primaries.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

/// A host and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The answer of one server.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Grows with every failover, and in a cluster with every slot that was moved.
    pub(super) epoch: u64,
    /// The primary of each shard, or why there is none, in words.
    pub(super) primaries: Vec<Result<Place, String>>,
    /// Every server that could be asked next time.
    pub(super) nodes: Vec<Place>,
}

/// Whether the server does not know the command, as a server of another kind does not.
pub(super) fn is_unknown_command(error: &RedisError) -> bool {
    let text = error.detail().unwrap_or_default();
    error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
        && (text.contains("unknown command") || text.contains("cluster support disabled"))
}

/// A text of a reply; empty when it is none.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// Names and values, of a map or of a list.
pub(super) fn pairs(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Map(fields) => fields.iter().map(|(name, value)| (text(name), text(value))).collect(),
        list => items(list).chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
    }
}
