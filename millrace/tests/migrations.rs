//! `millrace migrate` may run several times at once, as two pods of a deployment do.

use testkit::{Postgres, Program};

/// Runs the command several times at once. Returns what they printed.
async fn migrate_at_once(database_url: &str) -> Vec<String> {
    // Both addresses must be set; this command does not connect to Redis.
    let variables = [("DATABASE_URL", database_url), ("REDIS_URL", "redis://127.0.0.1:1/0")];
    let run = || Program::run("millrace", &["migrate"], &variables);
    let outputs = tokio::join!(run(), run(), run());
    let outputs: [_; 3] = outputs.into();
    for output in &outputs {
        assert_eq!(output.code, Some(0), "{output:?}");
    }
    outputs.map(|output| output.stdout).to_vec()
}

#[tokio::test]
async fn commands_that_migrate_at_once_apply_every_migration_once() {
    let postgres = Postgres::start().await;
    let outputs = migrate_at_once(&postgres.url()).await;
    let applied = outputs.iter().filter(|output| output.contains("0001_foundation")).count();
    assert_eq!(applied, 1, "{outputs:?}");
    let client = postgres.connect().await;
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind IN ('r', 'p')
                     AND relnamespace = 'public'::regnamespace AND NOT relispartition";
    let before: String = client.query_one(tables, &[]).await.unwrap().get(0);
    assert!(before.contains("api_keys") && before.contains("projects"), "{before}");

    let outputs = migrate_at_once(&postgres.url()).await;
    assert!(outputs.iter().all(|output| !output.contains("0001_foundation")), "{outputs:?}");
    let after: String = client.query_one(tables, &[]).await.unwrap().get(0);
    assert_eq!(after, before, "a migrated database is left alone");
    let plans: i64 = client.query_one("SELECT count(*) FROM plans", &[]).await.unwrap().get(0);
    assert_eq!(plans, 3);
}
