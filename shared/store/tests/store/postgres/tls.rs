//! What each `sslmode` accepts, over real connections.

use std::path::Path;

use millrace_store::postgres::{Environment, PostgresOptions, PostgresSource, PostgresStore};
use millrace_store::{Operators, StoreError};
use testkit::{Authority, Postgres};

/// Connects with this URL and these variables of libpq.
async fn connect(url: &str, variables: &[(&'static str, &str)]) -> Result<(), StoreError> {
    let environment: Environment =
        variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let source = PostgresSource::Settings { url: Some(url.into()), environment };
    let options = PostgresOptions { source, pool_size: 1, application: "millrace-test" };
    PostgresStore::for_command(options).check_server().await
}

fn url(server: &Postgres, host: &str, mode: &str, ca: Option<&Path>) -> String {
    let ca = ca.map_or_else(String::new, |ca| format!("&sslrootcert={}", ca.display()));
    format!("postgres://postgres@{host}:{}/postgres?sslmode={mode}{ca}", server.port())
}

#[tokio::test]
async fn every_mode_accepts_what_libpq_accepts_and_says_why_it_refuses_the_rest() {
    const NO_TLS: Option<&str> = Some("this PostgreSQL has no TLS");
    const CHAIN: Option<&str> = Some("is not signed by a CA that is trusted: set sslrootcert");
    const NAME: Option<&str> = Some("is for another name than the host of DATABASE_URL");
    let (authority, other) = (Authority::create(), Authority::create());
    let signed = authority.sign("server", "IP:127.0.0.1");
    let tls = Postgres::start_with(&signed.postgres_settings()).await;
    let plain = Postgres::start().await;
    let (right, wrong) = (authority.ca(), other.ca());
    for (mode, without_tls, wrong_ca, wrong_name) in [
        ("disable", None, None, None),
        ("allow", None, None, None),
        ("prefer", None, None, None),
        ("require", NO_TLS, CHAIN, None),
        ("verify-ca", NO_TLS, CHAIN, None),
        ("verify-full", NO_TLS, CHAIN, NAME),
    ] {
        for (server, host, ca, expected) in [
            (&tls, "127.0.0.1", &right, None),
            (&plain, "127.0.0.1", &right, without_tls),
            (&tls, "127.0.0.1", &wrong, wrong_ca),
            (&tls, "localhost", &right, wrong_name),
        ] {
            let connected = connect(&url(server, host, mode, Some(ca)), &[]).await;
            match (connected, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{mode} {host}: {error}");
                }
                (connected, _) => panic!("{mode} {host}: {connected:?}, expected {expected:?}"),
            }
        }
    }
    // Without a CA, `require` checks nothing, and the others cannot work.
    connect(&url(&tls, "localhost", "require", None), &[]).await.expect("it is encrypted");
    let refused =
        connect(&url(&tls, "localhost", "verify-full", None), &[]).await.expect_err("there is no CA");
    assert!(refused.to_string().contains("need sslrootcert"), "{refused}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_a_client_certificate_is_sent_when_demanded() {
    let authority = Authority::create();
    let expired = authority.sign_expired("expired", "IP:127.0.0.1");
    let server = Postgres::start_with(&expired.postgres_settings()).await;
    let refused = connect(&url(&server, "127.0.0.1", "verify-full", Some(&authority.ca())), &[]).await;
    assert!(refused.unwrap_err().to_string().contains("has expired"));

    let signed = authority.sign("server", "IP:127.0.0.1");
    let ca = authority.ca();
    let settings =
        [&signed.postgres_settings()[..], &[("ssl_ca_file", ca.to_str().expect("a plain name"))]].concat();
    let mut server = Postgres::start_with(&settings).await;
    let rules = "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\nlocal all all trust\n\
                 hostnossl postgres postgres 127.0.0.1/32 trust\n";
    std::fs::write(server.folder().join("postgres-data/pg_hba.conf"), rules).expect("the folder is writable");
    server.restart_fast().await;
    let address = url(&server, "127.0.0.1", "verify-full", Some(&authority.ca()));
    let refused = connect(&address, &[]).await.expect_err("it demands a certificate").to_string();
    assert!(refused.contains("certificate"), "{refused}");
    let client = authority.sign("postgres", "DNS:client");
    let (certificate, key) = (client.certificate.display(), client.key.display());
    connect(&format!("{address}&sslcert={certificate}&sslkey={key}"), &[])
        .await
        .expect("a client with a certificate");
    let variables =
        [("PGSSLCERT", &*client.certificate.to_string_lossy()), ("PGSSLKEY", &*client.key.to_string_lossy())];
    connect(&address, &variables).await.expect("the variables name it");
}

#[tokio::test]
async fn a_client_without_tls_at_a_server_that_demands_it_and_the_reverse_name_the_parameter_to_change() {
    let authority = Authority::create();
    let signed = authority.sign("server", "IP:127.0.0.1");
    let mut demanding = Postgres::start_with(&signed.postgres_settings()).await;
    let rules = "hostssl all app 127.0.0.1/32 trust\nhostnossl all postgres 127.0.0.1/32 trust\n";
    std::fs::write(demanding.folder().join("postgres-data/pg_hba.conf"), rules)
        .expect("the folder is writable");
    demanding.restart_fast().await;
    demanding.connect().await.batch_execute("CREATE ROLE app LOGIN").await.expect("a role");
    let as_app = |mode: &str| url(&demanding, "127.0.0.1", mode, None).replace("postgres@", "app@");
    connect(&as_app("require"), &[]).await.expect("over TLS");
    let refused = connect(&as_app("disable"), &[]).await.expect_err("without TLS").to_string();
    assert!(refused.contains("if it demands TLS, set sslmode=verify-full"), "{refused}");

    let plain = Postgres::start().await;
    let refused = connect(&url(&plain, "127.0.0.1", "require", None), &[]).await.expect_err("it has no TLS");
    let (set, or) = ("set ssl = on in it", "or sslmode=prefer in DATABASE_URL");
    assert!(refused.to_string().contains(set) && refused.to_string().contains(or), "{refused}");
}

#[tokio::test]
async fn passwords_are_found_where_libpq_finds_them() {
    let mut server = Postgres::start().await;
    server
        .connect()
        .await
        .batch_execute("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'p:w\\1'")
        .await
        .expect("a role");
    let rules = "host all app 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n";
    std::fs::write(server.folder().join("postgres-data/pg_hba.conf"), rules).expect("the folder is writable");
    server.restart_fast().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pgpass");
    std::fs::write(&file, format!("127.0.0.1:{}:*:app:p\\:w\\\\1\n", server.port())).expect("a file");
    let readable = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode));
    readable(0o600).expect("permissions");
    let path = file.to_str().expect("a plain name");
    let bare = format!("postgres://127.0.0.1:{}/postgres", server.port());
    connect(&bare, &[("PGUSER", "app"), ("PGPASSWORD", "p:w\\1")]).await.expect("the variable");
    connect(&bare, &[("PGUSER", "app"), ("PGPASSFILE", path)]).await.expect("the file of the variable");
    connect(&format!("{bare}?user=app&passfile={path}"), &[]).await.expect("the file of the URL");
    std::fs::copy(&file, folder.path().join(".pgpass")).expect("a file");
    let home = folder.path().to_str().expect("a plain name");
    connect(&bare, &[("PGUSER", "app"), ("HOME", home)]).await.expect("the file in the home folder");
    readable(0o644).expect("permissions");
    let refused =
        connect(&bare, &[("PGUSER", "app"), ("PGPASSFILE", path)]).await.expect_err("others may read it");
    assert!(refused.to_string().contains("password"), "{refused}");
}
