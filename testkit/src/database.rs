//! One database of a PostgreSQL server.

use tokio_postgres::{Client, Config, NoTls};

/// A database of a `Postgres`.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    port: u16,
}

impl Database {
    pub(crate) fn new(name: impl Into<String>, port: u16) -> Self {
        Self { name: name.into(), port }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `postgres://postgres@127.0.0.1:PORT/NAME`
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// The connection settings.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").dbname(&self.name);
        config
    }

    /// Opens a connection.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("a running PostgreSQL accepts connections")
    }

    pub(crate) async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        // The connection ends with the client or with the server. Many tests end the server on purpose.
        tokio::spawn(connection);
        Ok(client)
    }
}
