//! Servers on a disk that runs full. The tests are reported as ignored where no tmpfs can be mounted.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use redis::AsyncCommands;
use testkit::{Postgres, Redis, ServerOptions, Shim, Tmpfs};

const DAY_S: i64 = 86_400;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let refusal = Tmpfs::mount(1 << 20).err();
    let trial = |name: &str, test: fn()| {
        let trial = Trial::test(name, move || {
            test();
            Ok(())
        });
        match &refusal {
            None => trial,
            Some(reason) => trial.with_kind(reason.to_string()).with_ignored_flag(true),
        }
    };
    let trials = vec![
        trial(
            "a_redis_on_a_full_disk_ends_before_it_acknowledges_and_starts_again_when_there_is_space",
            || block_on(redis_on_a_full_disk()),
        ),
        trial("a_postgres_refuses_rows_for_a_full_tablespace_and_accepts_them_when_there_is_space", || {
            block_on(postgres_with_a_full_tablespace())
        }),
        trial("the_clock_and_the_data_folder_of_a_postgres_can_be_chosen", || {
            block_on(postgres_with_a_clock_and_a_disk())
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be created").block_on(test);
}

async fn redis_on_a_full_disk() {
    let disk = Tmpfs::mount(1 << 20).unwrap();
    let folder = disk.path();
    let mut redis =
        Redis::start_options(ServerOptions { folder: Some(&folder), ..ServerOptions::default() }).await;
    let mut connection = redis.connect().await;
    let mut acknowledged = 0_u32;
    while connection.set::<_, _, ()>(acknowledged, vec![b'x'; 64 << 10]).await.is_ok() {
        acknowledged += 1;
    }
    assert!(acknowledged > 0 && !redis.wait_exit().await.success(), "{}", redis.log());
    assert!(redis.log().contains("AOF write error"), "{}", redis.log());
    disk.resize(8 << 20);
    redis.restart().await;
    let stored: u32 = redis::cmd("DBSIZE").query_async(&mut redis.connect().await).await.unwrap();
    assert_eq!(stored, acknowledged, "all acknowledged keys and no others");
}

async fn postgres_with_a_full_tablespace() {
    let disk = Tmpfs::mount(1 << 20).unwrap();
    let postgres = Postgres::start().await;
    postgres.create_tablespace("small", &disk.path()).await;
    let client = postgres.connect().await;
    client.batch_execute("CREATE TABLE texts (text text) TABLESPACE small").await.unwrap();
    let insert = "INSERT INTO texts SELECT repeat('x', 1000) FROM generate_series(1, 2000)";
    let error = client.batch_execute(insert).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53100", "disk_full");
    disk.resize(16 << 20);
    client.batch_execute(insert).await.unwrap();
}

async fn postgres_with_a_clock_and_a_disk() {
    let disk = Tmpfs::mount(256 << 20).unwrap();
    let (shim, folder) = (Shim::create(), disk.path());
    let options =
        ServerOptions { variables: &shim.variables(), folder: Some(&folder), ..ServerOptions::default() };
    let postgres = Postgres::start_options(options).await;
    shim.set_clock_ahead(2 * DAY_S);
    let row =
        postgres.connect().await.query_one("SELECT extract(epoch FROM now())::bigint", &[]).await.unwrap();
    let machine_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(row.get::<_, i64>(0) > i64::try_from(machine_s).unwrap() + DAY_S);
    assert!(folder.join("postgres-data").is_dir());
}
