//! A real PgBouncer in front of a PostgreSQL.

use std::fs;
use std::process::{Command, Stdio};

use crate::cluster::{give_to_server, server_command};
use crate::daemon::{Daemon, Endpoint, Server};
use crate::database::Database;
use crate::postgres::Postgres;
use crate::process::find_program;

const INSTALL: &str = "install PgBouncer (Debian: apt-get install pgbouncer)";
const CONFIG: &str = "pgbouncer.ini";

/// A PgBouncer on a free port of 127.0.0.1. Dropping it kills the process.
#[derive(Debug)]
pub struct PgBouncer {
    daemon: Daemon<Pooler>,
}

#[derive(Debug)]
struct Pooler;

impl Server for Pooler {
    const NAME: &'static str = "pgbouncer";
    const LOG: &'static str = "pgbouncer.log";

    fn command(&self, endpoint: &Endpoint) -> Command {
        let folders = ["/usr/sbin".into()];
        let mut command = server_command(&find_program("pgbouncer", &folders, INSTALL));
        let log = endpoint.open_log::<Self>();
        let log_copy = log.try_clone().expect("an open file can be cloned");
        command.arg(endpoint.folder.path().join(CONFIG)).stdin(Stdio::null()).stdout(log).stderr(log_copy);
        command
    }

    async fn answers(&self, endpoint: &Endpoint, _pid: i32) -> Result<(), String> {
        let connected = Database::new("postgres", endpoint.port).try_connect().await;
        connected.map(drop).map_err(|error| error.to_string())
    }
}

impl PgBouncer {
    /// Starts a pooler in this mode: `session`, `transaction` or `statement`.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub async fn start(postgres: &Postgres, mode: &str) -> Self {
        let server = postgres.port();
        let prepare = |endpoint: &Endpoint| {
            let config = format!(
                "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {}\nauth_type = any\npool_mode = {mode}\nunix_socket_dir =\nmax_client_conn = 500\n\
                 default_pool_size = 100\n",
                endpoint.port
            );
            fs::write(endpoint.folder.path().join(CONFIG), config).expect("a server's folder is writable");
            give_to_server(endpoint.folder.path());
            Pooler
        };
        Self { daemon: Daemon::start(prepare).await }
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        Database::new("postgres", self.daemon.port()).url()
    }

    pub fn log(&self) -> String {
        self.daemon.log()
    }
}
