//! Traps on PostgreSQL connections: around COMMIT and inside COPY.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt;
use testkit::chaos::{Act, ArmedTrap, ChaosProxy, Moment, Transaction, Trap, Wire};
use testkit::{Postgres, eventually};
use tokio_postgres::{Client, Config, CopyInSink, NoTls};

use crate::*;

struct Server {
    /// Kept because dropping it stops the server.
    _postgres: Postgres,
    proxy: ChaosProxy,
    /// A connection that bypasses the proxy.
    direct: Client,
}

impl Server {
    async fn start() -> Self {
        let postgres = Postgres::start().await;
        let direct = postgres.connect().await;
        direct.batch_execute("CREATE TABLE kept (value int)").await.unwrap();
        let proxy = ChaosProxy::start(local(postgres.port()), Wire::Postgres).await;
        Self { _postgres: postgres, proxy, direct }
    }

    /// Connects through the proxy.
    async fn connect(&self) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.proxy.address().port()).user("postgres").dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn rows(&self) -> i64 {
        self.direct.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0)
    }

    /// Waits until exactly one other session in pg_stat_activity fulfills this condition.
    async fn wait_for_session(&self, condition: &str) {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
             AND pid <> pg_backend_pid() AND {condition}"
        );
        let look = async || self.direct.query_one(&query, &[]).await.unwrap().get::<_, i64>(0) == 1;
        eventually(DEADLINE, condition, look).await;
    }

    async fn wait_until_alone(&self) {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let look = async || self.direct.query_one(query, &[]).await.unwrap().get::<_, i64>(0) == 1;
        eventually(DEADLINE, "the other sessions to end", look).await;
    }

    fn arm(&self, moment: Moment, act: Act) -> ArmedTrap {
        self.proxy.arm(Trap::first(moment, act))
    }
}

/// A transaction that sends INSERT and COMMIT without waiting in between, as the stream worker does.
async fn insert_and_commit(client: &Client) -> Result<(), tokio_postgres::Error> {
    let insert = client.prepare("INSERT INTO kept VALUES (1)").await?;
    client.batch_execute("BEGIN").await?;
    let (inserted, committed) =
        tokio::join!(biased; client.execute(&insert, &[]), client.batch_execute("COMMIT"));
    inserted?;
    committed
}

async fn begin_copy(client: &Client) -> Pin<Box<CopyInSink<Bytes>>> {
    client.batch_execute("BEGIN").await.unwrap();
    Box::pin(client.copy_in("COPY kept FROM STDIN").await.unwrap())
}

/// Enough rows for the client to send them without buffering more.
fn many_rows() -> Bytes {
    Bytes::from("1\n".repeat(10_000))
}

#[tokio::test]
async fn a_commit_that_is_cut_before_it_is_sent_does_not_happen() {
    let server = Server::start().await;
    for act in [Act::Cut, Act::CutReply] {
        let trap = server.arm(Moment::CommitSent(Transaction::Any), act);
        assert!(insert_and_commit(&server.connect().await).await.is_err());
        assert!(trap.sprung());
        server.wait_until_alone().await;
        assert_eq!(server.rows().await, 0);
    }
}

#[tokio::test]
async fn statements_before_a_lost_commit_still_arrive() {
    let server = Server::start().await;
    let client = server.connect().await;
    server.arm(Moment::CommitSent(Transaction::Any), Act::BlackHole);
    let mut answer = tokio::spawn(async move { insert_and_commit(&client).await });
    server.wait_for_session("state = 'idle in transaction' AND query LIKE 'INSERT%'").await;
    assert!(stays_silent(&mut answer).await);
    server.proxy.heal();
    assert!(answer.await.unwrap().is_err());
    server.wait_until_alone().await;
    assert_eq!(server.rows().await, 0);
}

#[tokio::test]
async fn a_commit_whose_answer_is_cut_has_happened() {
    let server = Server::start().await;
    for (act, rows) in [(Act::Cut, 1), (Act::CutReply, 2)] {
        let trap = server.arm(Moment::CommitAnswered(Transaction::Any), act);
        assert!(insert_and_commit(&server.connect().await).await.is_err());
        assert!(trap.sprung());
        assert_eq!(server.rows().await, rows);
    }
}

#[tokio::test]
async fn the_client_learns_of_a_delivered_commit_before_the_cut() {
    let server = Server::start().await;
    let client = server.connect().await;
    server.arm(Moment::CommitDelivered(Transaction::Any), Act::Cut);
    insert_and_commit(&client).await.unwrap();
    eventually(DEADLINE, "the client to lose its connection", async || client.is_closed()).await;
    assert_eq!(server.rows().await, 1);
}

#[tokio::test]
async fn a_trap_hits_the_kth_commit_and_a_pause_loses_nothing() {
    let server = Server::start().await;
    let client = server.connect().await;
    server.proxy.arm(Trap::first(Moment::CommitSent(Transaction::Any), Act::Pause { ms: 20 }));
    server.proxy.arm(Trap::first(Moment::CommitAnswered(Transaction::Any), Act::Pause { ms: 20 }));
    server.proxy.arm(Trap::nth(3, Moment::CommitAnswered(Transaction::Any), Act::Cut));
    insert_and_commit(&client).await.unwrap();
    insert_and_commit(&client).await.unwrap();
    assert!(insert_and_commit(&client).await.is_err());
    assert_eq!(server.rows().await, 3);
}

#[tokio::test]
async fn a_trap_can_select_commits_of_transactions_with_a_copy() {
    let server = Server::start().await;
    let client = server.connect().await;
    let trap = server.arm(Moment::CommitAnswered(Transaction::WithCopy), Act::Cut);
    insert_and_commit(&client).await.unwrap();
    // This transaction copies and is rolled back. The next one has no COPY.
    let mut copy = begin_copy(&client).await;
    copy.send(many_rows()).await.unwrap();
    copy.as_mut().finish().await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    insert_and_commit(&client).await.unwrap();
    assert!(!trap.sprung());
    let mut copy = begin_copy(&client).await;
    copy.send(many_rows()).await.unwrap();
    copy.as_mut().finish().await.unwrap();
    assert!(client.batch_execute("COMMIT").await.is_err());
    assert!(trap.sprung());
    assert_eq!(server.rows().await, 10_002);
}

#[tokio::test]
async fn a_copy_that_is_cut_stores_no_row() {
    let server = Server::start().await;
    for moment in [Moment::CopyData, Moment::CopyDone] {
        let client = server.connect().await;
        let trap = server.arm(moment, Act::Cut);
        let mut copy = begin_copy(&client).await;
        let ending = async {
            copy.send(many_rows()).await?;
            copy.as_mut().finish().await
        };
        assert!(ending.await.is_err());
        assert!(trap.sprung());
        server.wait_until_alone().await;
        assert_eq!(server.rows().await, 0);
    }
}

#[tokio::test]
async fn a_black_hole_inside_copy_keeps_the_session_until_the_proxy_is_healed() {
    let server = Server::start().await;
    let client = server.connect().await;
    let trap = server.arm(Moment::CopyData, Act::BlackHole);
    let mut copy = begin_copy(&client).await;
    copy.send(many_rows()).await.unwrap();
    eventually(DEADLINE, "the trap to spring", async || trap.sprung()).await;
    drop((copy, client));
    let in_copy = "state = 'active' AND query LIKE 'COPY%' AND wait_event = 'ClientRead'";
    server.wait_for_session(in_copy).await;
    let alone = server.wait_until_alone();
    assert!(stays_silent(alone).await, "the server does not notice that the client is gone");
    server.wait_for_session(in_copy).await;
    server.proxy.heal();
    server.wait_until_alone().await;
    assert_eq!(server.rows().await, 0);
}
