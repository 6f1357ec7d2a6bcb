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

#[tokio::test]
async fn the_type_of_json_columns_is_chosen_once_and_another_type_is_refused() {
    let postgres = Postgres::start().await;
    let url = postgres.url();
    let variables = [("DATABASE_URL", url.as_str()), ("REDIS_URL", "redis://127.0.0.1:1/0")];
    let run = async |arguments: &[&str]| Program::run("millrace", arguments, &variables).await;
    let installed = run(&["migrate", "--json-columns", "json", "--json"]).await;
    assert!(installed.stdout.contains(r#""json_columns": "json""#), "{installed:?}");
    let kept = run(&["migrate", "--json"]).await;
    assert!(kept.stdout.contains(r#""json_columns": "json""#), "{kept:?}");
    let refused = run(&["migrate", "--json-columns", "jsonb"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in ["--json-columns jsonb", "installed with json columns", "install into a new database"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    let unknown = run(&["migrate", "--json-columns", "text"]).await;
    assert!(unknown.stderr.contains("[possible values: jsonb, json]"), "{unknown:?}");
}

#[tokio::test]
async fn files_have_no_choice_of_json_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut program = Program::start(
        "millrace",
        &[("DATA_DIR", path), ("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")],
    );
    program.wait_for_line("/v1/events").await;
    let refused =
        Program::run("millrace", &["migrate", "--json-columns", "json"], &[("DATA_DIR", path)]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("this installation is on files"), "{refused:?}");
}
