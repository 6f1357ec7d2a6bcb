//! The addresses of Redis and PostgreSQL.

use millrace_stream::redis::{RedisOptions, RedisSource};

use crate::Policy;
use crate::urls::{database_url, redis_url};
use crate::values::number;

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Installation")]
pub struct Servers {
    /// Address of Redis: redis://USER:PASSWORD@HOST:PORT/DB or redis+unix:///PATH
    #[arg(long, env = "REDIS_URL", value_name = "URL", default_value = "redis://127.0.0.1:6379/0")]
    #[arg(hide_env_values = true, value_parser = redis_url)]
    pub redis_url: String,
    /// Address of PostgreSQL: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(id = "database_url", long = "database-url", env = "DATABASE_URL", value_name = "URL")]
    #[arg(default_value = "postgres://127.0.0.1:5432/millrace")]
    #[arg(hide_env_values = true, value_parser = database_url)]
    pub database: tokio_postgres::Config,
    /// Shards of the stream; must be the same in every process. `millrace shards set` changes the number of
    /// an installation that has served
    #[arg(long, env = "STREAM_SHARDS", value_name = "SHARDS", default_value = "1")]
    #[arg(value_parser = number(1..=256_u16))]
    pub stream_shards: u16,
}

impl Servers {
    /// The settings of the stream on Redis.
    pub fn redis_options(&self, policy: &Policy, connections: usize) -> RedisOptions {
        RedisOptions {
            source: RedisSource::from(self.redis_url.as_str()),
            durability: policy.durability,
            shards: self.stream_shards,
            backlog_events_max: policy.backlog_events_max,
            connections,
        }
    }
}
