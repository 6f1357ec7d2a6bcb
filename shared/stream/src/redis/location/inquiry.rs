//! Asks several servers the same questions at the same time, and keeps the connections for the next time.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ConnectionInfo, RedisError, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::redis::client;
use crate::redis::error::{describe_new, describe_silence};

/// How long a server may take to connect and answer. A server that takes longer is as good as none: another
/// one knows the same.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// How long to wait for the others after the first answer.
const OTHERS_TIME_MAX: Duration = Duration::from_millis(100);

pub(super) type Replies = [Result<Value, RedisError>; 2];

/// Keeps a connection to each server that answered last time.
#[derive(Default)]
pub(super) struct Inquiry {
    kept: HashMap<String, MultiplexedConnection>,
}

impl Inquiry {
    /// The replies of each server, in their order, or why there are none. Servers that are much slower than
    /// the first are not waited for.
    pub(super) async fn ask(
        &mut self,
        servers: &[ConnectionInfo],
        questions: &[Cmd; 2],
    ) -> Vec<Result<Replies, String>> {
        let mut asking = JoinSet::new();
        for (at, server) in servers.iter().enumerate() {
            let kept = self.kept.remove(&server.addr().to_string());
            let (server, questions) = (server.clone(), questions.clone());
            asking.spawn(async move { (at, ask_in_time(&server, kept, &questions).await) });
        }
        self.kept.clear();
        let silent = |server| Err(describe_silence(server));
        let mut answers: Vec<Result<Replies, String>> = servers.iter().map(silent).collect();
        let mut patience = ANSWER_TIME_MAX;
        while let Ok(Some(answered)) = timeout(patience, asking.join_next()).await {
            // A panic of the task is a bug that was reported already.
            let Ok((at, answer)) = answered else { continue };
            answers[at] = answer.map(|(replies, connection)| {
                patience = OTHERS_TIME_MAX;
                self.kept.insert(servers[at].addr().to_string(), connection);
                replies
            });
        }
        answers
    }
}

type Answered = (Replies, MultiplexedConnection);

async fn ask_in_time(
    server: &ConnectionInfo,
    kept: Option<MultiplexedConnection>,
    questions: &[Cmd; 2],
) -> Result<Answered, String> {
    let asking = async {
        if let Some(connection) = kept
            && let Ok(answered) = ask(connection, questions).await
        {
            return Ok(answered);
        }
        let told = |error| describe_new(&error, server);
        ask(connect(server).await.map_err(told)?, questions).await.map_err(told)
    };
    timeout(ANSWER_TIME_MAX, asking).await.unwrap_or_else(|_| Err(describe_silence(server)))
}

async fn connect(server: &ConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_TIME_MAX))
        .set_response_timeout(Some(ANSWER_TIME_MAX));
    client::single(server)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Fails when the connection does.
async fn ask(connection: MultiplexedConnection, questions: &[Cmd; 2]) -> Result<Answered, RedisError> {
    let (mut first, mut second) = (connection.clone(), connection.clone());
    let replies: [Result<Value, RedisError>; 2] =
        tokio::join!(questions[0].query_async(&mut first), questions[1].query_async(&mut second)).into();
    match replies {
        [Err(error), _] if error.code().is_none() => Err(error),
        replies => Ok((replies, connection)),
    }
}
