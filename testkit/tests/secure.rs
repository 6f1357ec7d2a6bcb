//! The programs over TLS, with secrets in files, and through a pooler.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::{
    Authority, PgBouncer, Postgres, Program, Redis, eventually, free_port, http, wait_until_ready,
};

const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "secure-test-key-1";

/// The settings of one installation.
#[derive(Clone)]
struct Settings(Vec<(String, String)>);

impl Settings {
    fn new(redis: &str, database: &str) -> Self {
        let fixed = [("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];
        Self(Vec::new()).with(&fixed).with(&[("REDIS_URL", redis), ("DATABASE_URL", database)])
    }

    fn with(&self, more: &[(&str, &str)]) -> Self {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self(self.0.iter().cloned().chain(more).collect())
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    async fn millrace(&self, arguments: &[&str]) -> testkit::ProgramOutput {
        Program::run("millrace", arguments, &self.pairs()).await
    }

    async fn prepare(&self) {
        for arguments in [&["migrate"][..], &["project", "create", "shop", "--plan", "pro", "--key", KEY]] {
            let output = self.millrace(arguments).await;
            assert_eq!(output.code, Some(0), "{output:?}");
        }
    }

    async fn api(&self) -> (Program, SocketAddr) {
        let mut api = Program::start("ingest-api", &self.pairs());
        let address = api.address().await;
        wait_until_ready(address, SOON).await;
        (api, address)
    }

    async fn worker(&self) -> Program {
        let mut worker = Program::start("stream-worker", &self.pairs());
        worker.wait_for_line("lanes are draining").await;
        worker
    }
}

async fn post(api: SocketAddr, key: &str) -> u16 {
    let authorization = format!("Bearer {key}");
    let body = json!({"events": [{"name": "tested"}]}).to_string();
    http::post(api, "/v1/events", &[("authorization", &authorization)], body).await.status
}

async fn stored(postgres: &Postgres, count: i64) {
    let database = postgres.connect().await;
    eventually(SOON, "the events to be stored", async || {
        let found: i64 = database.query_one("SELECT count(*) FROM events", &[]).await.unwrap().get(0);
        if found == count { Ok(()) } else { Err(found) }
    })
    .await;
}

/// A new key works and a revoked one does not, without a wait for the next poll.
async fn keys_are_known_at_once(settings: &Settings, api: SocketAddr) {
    let created = settings.millrace(&["key", "create", "shop", "--key", "secure-test-key-2", "--json"]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    eventually(SOON, "the new key to work", async || match post(api, "secure-test-key-2").await {
        202 => Ok(()),
        status => Err(status),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_stored_over_tls_and_what_is_wrong_with_it_is_said() {
    let (authority, other) = (Authority::create(), Authority::create());
    let signed = authority.sign("server", "IP:127.0.0.1");
    let client = authority.sign("client", "DNS:client");
    let (port, ca) = (free_port().to_string(), authority.ca());
    let redis = Redis::start_with(&signed.redis_settings(&port, &ca, "yes")).await;
    let postgres = Postgres::start_with(&signed.postgres_settings()).await;
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let database =
        |ca: &std::path::Path| format!("{}?sslmode=verify-full&sslrootcert={}", postgres.url(), ca.display());
    let tls = format!("rediss://127.0.0.1:{port}/0");
    let with_ca = Settings::new(&tls, &database(&ca)).with(&[("REDIS_TLS_CA", &text(&ca))]);
    let identity = [("REDIS_TLS_CERT", text(&client.certificate)), ("REDIS_TLS_KEY", text(&client.key))];
    let identity = identity.each_ref().map(|(name, path)| (*name, path.as_str()));
    let settings = with_ca.with(&identity);
    settings.prepare().await;
    let (_api, address) = settings.api().await;
    let _worker = settings.worker().await;
    assert_eq!(post(address, KEY).await, 202);
    stored(&postgres, 1).await;
    keys_are_known_at_once(&settings, address).await;
    let audit = settings.millrace(&["audit"]).await;
    assert_eq!(audit.code, Some(0), "{audit:?}");

    let wrong = text(&other.ca());
    for (settings, arguments, expected) in [
        (settings.with(&[("REDIS_TLS_CA", &wrong)]), ["audit"], "set REDIS_TLS_CA to the file of its CA"),
        (with_ca, ["audit"], "demand a certificate of this program"),
        (
            settings.with(&[("REDIS_URL", &format!("rediss://localhost:{port}/0"))]),
            ["audit"],
            "is for another name than the host of REDIS_URL",
        ),
        (settings.with(&[("REDIS_URL", &redis.url().replace("redis:", "rediss:"))]), ["audit"], "Redis"),
        (Settings::new(&format!("redis://127.0.0.1:{port}/0"), &database(&ca)), ["audit"], "Redis"),
        (settings.with(&[("DATABASE_URL", &database(&other.ca()))]), ["audit"], "set sslrootcert"),
    ] {
        let refused = settings.millrace(&arguments).await;
        assert!(refused.code != Some(0) && refused.stderr.contains(expected), "{expected}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_changed_in_the_file_is_used_at_the_next_connection() {
    let redis = Redis::start_with(&[]).await;
    let postgres = Postgres::start().await;
    redis.run(&["ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (redis_file, database_file) = (file("redis"), file("postgres"));
    let redis_url = |password: &str| format!("redis://app:{password}@127.0.0.1:{}/0\n", redis.port());
    let database_url = |user: &str| postgres.url().replace("postgres@", &format!("{user}@"));
    let database = postgres.connect().await;
    database
        .batch_execute("CREATE ROLE first LOGIN SUPERUSER; CREATE ROLE second LOGIN SUPERUSER")
        .await
        .unwrap();
    std::fs::write(&redis_file, redis_url("first")).unwrap();
    std::fs::write(&database_file, database_url("first")).unwrap();
    let files = [("REDIS_URL_FILE", redis_file.as_str()), ("DATABASE_URL_FILE", &database_file)];
    let settings = Settings::new("", "").with(&files);
    settings.prepare().await;
    let (_api, address) = settings.api().await;
    let _worker = settings.worker().await;
    assert_eq!(post(address, KEY).await, 202);
    stored(&postgres, 1).await;

    std::fs::write(&redis_file, redis_url("second")).unwrap();
    std::fs::write(&database_file, database_url("second")).unwrap();
    redis.run(&["ACL", "SETUSER", "app", "resetpass", ">second"]).await;
    redis.run(&["CLIENT", "KILL", "USER", "app"]).await;
    database
        .batch_execute(
            "ALTER ROLE first NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'first'",
        )
        .await
        .unwrap();
    eventually(SOON, "a post to be accepted", async || match post(address, KEY).await {
        202 => Ok(()),
        status => Err(status),
    })
    .await;
    stored(&postgres, 2).await;
    let audit = settings.millrace(&["audit"]).await;
    assert_eq!(audit.code, Some(0), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_works_in_session_mode_and_is_refused_in_the_others() {
    let redis = Redis::start().await;
    let postgres = Postgres::start().await;
    let session = PgBouncer::start(&postgres, "session").await;
    let settings = Settings::new(&redis.url(), &session.url());
    settings.prepare().await;
    let (_api, address) = settings.api().await;
    let _worker = settings.worker().await;
    assert_eq!(post(address, KEY).await, 202);
    stored(&postgres, 1).await;
    keys_are_known_at_once(&settings, address).await;

    let transaction = PgBouncer::start(&postgres, "transaction").await;
    let settings = Settings::new(&redis.url(), &transaction.url());
    for (program, arguments, code) in [
        ("ingest-api", &[][..], 2),
        ("stream-worker", &[], 2),
        ("millrace", &["project", "create", "other", "--plan", "pro"], 3),
        ("millrace", &["migrate"], 3),
    ] {
        let refused = Program::run(program, arguments, &settings.pairs()).await;
        let text = format!("{}{}", refused.stdout, refused.stderr);
        assert_eq!(refused.code, Some(code), "{program}: {text}");
        assert!(text.contains("set pool_mode = session"), "{program}: {text}");
    }
}
