//! The sessions outside the pool use TLS as well: the one that listens, and requests to cancel.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{ChangeMark, ChangedAccounts, SharedStore};
use testkit::{Authority, Postgres, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::suite::*;

const DEADLINE: Duration = Duration::from_secs(60);
/// Longer than any test: what returns earlier was announced.
const HOUR: Duration = Duration::from_secs(3_600);
/// The first words of a connection, in the protocol of PostgreSQL.
const SSL_REQUEST: u32 = 80_877_103;

/// A server that takes no connection over TCP without TLS, its CA, and a store on it.
struct Secured {
    server: Postgres,
    authority: Authority,
}

impl Secured {
    async fn start() -> Self {
        let authority = Authority::create();
        let signed = authority.sign("server", "IP:127.0.0.1");
        let mut server = Postgres::start_with(&signed.postgres_settings()).await;
        // The superuser is that of the tests.
        let rules = "hostssl all all 127.0.0.1/32 trust\nhostnossl all postgres 127.0.0.1/32 trust\n";
        std::fs::write(server.folder().join("postgres-data/pg_hba.conf"), rules)
            .expect("the folder is writable");
        server.restart_fast().await;
        let app = "CREATE ROLE app LOGIN SUPERUSER";
        server.connect().await.batch_execute(app).await.expect("a role");
        Self { server, authority }
    }

    /// A store that connects to this port as a role that must use TLS.
    async fn store(&self, port: u16) -> SharedStore {
        let ca = self.authority.ca();
        let url = format!(
            "postgres://app@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={}",
            ca.display()
        );
        let options =
            PostgresOptions { source: url.as_str().into(), pool_size: 2, application: "millrace-test" };
        let store: SharedStore = PostgresStore::new(options);
        store.migrate().await.expect("migrated");
        store
    }
}

/// A proxy that notes the first word of every connection.
async fn noting_proxy(to: u16) -> (u16, Arc<Mutex<Vec<u32>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let words: Arc<Mutex<Vec<u32>>> = Arc::default();
    let noted = Arc::clone(&words);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            tokio::spawn(async move {
                let mut start = [0; 8];
                stream.read_exact(&mut start).await?;
                let word = start.last_chunk().map(|word| u32::from_be_bytes(*word));
                noted.lock().expect("no panic").extend(word);
                let mut server = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], to))).await?;
                server.write_all(&start).await?;
                copy_bidirectional(&mut stream, &mut server).await
            });
        }
    });
    (port, words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_announced_over_tls_without_any_poll() {
    let secured = Secured::start().await;
    let store = secured.store(secured.server.port()).await;
    let project = project(&store, "p").await;
    let first = store.accounts_changed(ChangeMark::default(), HOUR).await;
    assert!(matches!(first.changed, ChangedAccounts::All), "{first:?}");
    let admin = secured.server.connect().await;
    let listening = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                      WHERE usename = 'app' AND pid IN (SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_listening_channels%')";
    let is_tls: bool = eventually(DEADLINE, "a session that listens", async || {
        admin.query_opt(listening, &[]).await.expect("sessions can be seen").map(|row| row.get(0))
    })
    .await;
    assert!(is_tls);
    let accounts = store.accounts().await.expect("accounts");
    assert_eq!(accounts.len(), 1);

    let revoke = "UPDATE api_keys SET revoked_at = now()";
    admin.batch_execute(revoke).await.expect("revoked");
    let changes = store.accounts_changed(first.mark, HOUR).await;
    match changes.changed {
        ChangedAccounts::Projects(projects) => assert!(projects.contains(&project)),
        other => panic!("{other:?}"),
    }
    assert!(store.accounts().await.expect("accounts").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_of_a_dropped_session_is_cancelled_over_tls() {
    let secured = Secured::start().await;
    let (port, words) = noting_proxy(secured.server.port()).await;
    let store = secured.store(port).await;
    let project = project(&store, "p").await;
    let mut writer = store.writer("victim").await.expect("a writer");
    let admin = secured.server.connect().await;
    let mut rival = secured.server.connect().await;
    let blocking = rival.transaction().await.expect("a transaction");
    blocking.batch_execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let now = now_ms();
    let requests = [request(project, new_batch_id(), entry(now, 0), &events(now, 1..=3))];
    let waiting = "SELECT pid FROM pg_stat_activity
                    WHERE application_name = 'millrace-worker:victim' AND wait_event_type = 'Lock'";
    let waits = eventually(DEADLINE, "the writer to wait", async || {
        admin.query_opt(waiting, &[]).await.expect("sessions can be seen").map(|row| row.get::<_, i32>(0))
    });
    let pid = tokio::select! {
        pid = waits => pid,
        written = writer.write(&requests) => panic!("the table is locked: {written:?}"),
    };
    drop(writer);
    // The lock is still held. It times out, or a request to cancel ends the statement: the log says which.
    let ended = eventually(DEADLINE, "the statement to end", async || {
        let log = secured.server.log();
        let of_writer =
            |line: &&str| line.contains(&format!("[{pid}]")) && line.contains("canceling statement");
        log.lines().find(of_writer).map(str::to_owned)
    })
    .await;
    assert!(ended.ends_with("canceling statement due to user request"), "{ended}");
    blocking.rollback().await.expect("rolled back");
    let words = words.lock().expect("no panic").clone();
    assert!(words.len() > 3 && words.iter().all(|word| *word == SSL_REQUEST), "{words:?}");
}
