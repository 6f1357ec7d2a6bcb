//! An installation on real servers, a real Prometheus that scrapes it, and the database role of Grafana.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::grafana::{Panel, Question, View};
use testkit::{Postgres, Program, Prometheus, QueryTime, Redis, Series, eventually};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Generous: only a defect exceeds it.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The projects and their plans.
pub const PROJECTS: &[(&str, &str)] = &[
    ("storefront", "enterprise"),
    ("warehouse", "enterprise"),
    ("mobile-app", "pro"),
    ("hobby", "free"),
    ("trial", "trial"),
];
/// Events per month on the plan `trial`.
pub const TRIAL_EVENTS: u64 = 2_000;
/// The name of an event that this PostgreSQL refuses.
pub const POISON: &str = "poison";

/// Declares the programs before their servers, so that they stop first.
pub struct Installation {
    pub prometheus: Prometheus,
    _programs: [Program; 2],
    pub postgres: Postgres,
    _redis: Redis,
    reader: Client,
    pub api: SocketAddr,
    settings: Vec<(&'static str, String)>,
    /// Seconds since 1970.
    started_at: f64,
}

/// The result of a query.
pub enum QueryResult {
    Series(Vec<Series>),
    Rows(Rows),
}

/// Rows of PostgreSQL, as text.
pub struct Rows {
    pub columns: Vec<(String, Type)>,
    pub rows: Vec<Vec<Option<String>>>,
}

/// The key of a project.
pub fn key_of(project: &str) -> String {
    format!("mk_dashboards_{project}")
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

impl Installation {
    /// Starts everything, with projects that have no events yet.
    pub async fn start() -> Self {
        let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
        let settings = vec![
            ("REDIS_URL", redis.url()),
            ("DATABASE_URL", postgres.url()),
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("METRICS_ADDR", "127.0.0.1:0".to_owned()),
        ];
        run(&settings, &["migrate"]).await;
        create_projects(&settings).await;
        let reader = connect_as_reader(&postgres).await;
        let refuses = format!("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (name <> '{POISON}')");
        postgres.connect().await.batch_execute(&refuses).await.unwrap();
        let variables = variables(&settings);
        let mut api = Program::start("ingest-api", &variables);
        let mut worker = Program::start("stream-worker", &variables);
        let address = api.address().await;
        let jobs =
            [("ingest-api", api.metrics_address().await), ("stream-worker", worker.metrics_address().await)];
        let prometheus = Prometheus::start(&jobs).await;
        Self {
            prometheus,
            _programs: [api, worker],
            postgres,
            _redis: redis,
            reader,
            api: address,
            settings,
            started_at: now(),
        }
    }

    /// Runs an operator's command, which may fail.
    pub async fn operate(&self, arguments: &[&str]) {
        Program::run("millrace", arguments, &variables(&self.settings)).await;
    }

    /// From the start until now, for all projects.
    pub fn view(&self, step: Duration) -> View<'static> {
        View {
            from: self.started_at,
            to: now(),
            step,
            scraped_every: Prometheus::SCRAPES_EVERY,
            variables: &[
                ("instance", ".*"),
                ("project", "SELECT project_id FROM projects"),
                ("interval", "1h"),
                ("meter", "1"),
            ],
        }
    }

    /// A range that contains this month, for all projects.
    pub fn month(&self) -> View<'static> {
        const DAY_S: f64 = 86_400.0;
        let now = now();
        View { from: now - 31.0 * DAY_S, to: now + 31.0 * DAY_S, ..self.view(Duration::from_secs(3_600)) }
    }

    /// From the start until now, for one project.
    pub fn view_of_one(&self) -> View<'static> {
        let variables = &[("instance", ".*"), ("project", "1"), ("interval", "6h"), ("meter", "1")];
        View { variables, ..self.view(Duration::from_secs(1)) }
    }

    /// Runs a query of a panel as Grafana does.
    pub async fn ask(&self, question: Question<'_>, view: &View<'_>) -> Result<QueryResult, String> {
        match question {
            Question::Range(expression) => {
                let range =
                    QueryTime::Range { from: view.from, to: view.to, step_s: view.step.as_secs_f64() };
                self.prometheus.ask(&view.promql(expression), range).await.map(QueryResult::Series)
            }
            Question::Instant(expression) => self
                .prometheus
                .ask(&view.promql(expression), QueryTime::At(view.to))
                .await
                .map(QueryResult::Series),
            Question::Sql(sql) => self.rows(&view.sql(sql)).await.map(QueryResult::Rows),
        }
    }

    /// Runs an SQL query with the database role of Grafana.
    pub async fn rows(&self, sql: &str) -> Result<Rows, String> {
        let failed = |error: tokio_postgres::Error| {
            format!("{}\n{sql}", error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string))
        };
        let statement = self.reader.prepare(sql).await.map_err(failed)?;
        let columns = statement
            .columns()
            .iter()
            .map(|column| (column.name().to_owned(), column.type_().clone()))
            .collect();
        let messages = self.reader.simple_query(sql).await.map_err(failed)?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(Rows { columns, rows: rows.collect() })
    }

    /// The indexes of a panel's queries that return nothing to draw.
    pub async fn empty_questions(&self, panel: Panel<'_>, view: &View<'_>) -> Vec<usize> {
        let mut empty = Vec::new();
        for (index, question) in panel.questions().enumerate() {
            let result =
                self.ask(question, view).await.unwrap_or_else(|error| panic!("{}: {error}", panel.name()));
            if result.is_empty() {
                empty.push(index);
            }
        }
        empty
    }

    /// Waits until every one of `accepted` events is stored, a duplicate or dead.
    pub async fn wait_until_drained(&self, accepted: u64) {
        eventually(PATIENCE, "every accepted event to be stored", async || {
            let sum = "SELECT sum(events + duplicates + dead) AS accounted FROM usage_hourly";
            let accounted = self.rows(sum).await?.number(0, "accounted");
            if accounted == accepted as f64 { Ok(()) } else { Err(format!("{accounted} of {accepted}")) }
        })
        .await;
    }
}

impl QueryResult {
    /// Whether there is no series with a number, or no row.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Series(series) => {
                series.iter().all(|series| series.samples.iter().all(|sample| sample.value.is_nan()))
            }
            Self::Rows(rows) => rows.rows.is_empty(),
        }
    }

    /// # Panics
    /// When it is the result of an SQL query.
    pub fn series(self) -> Vec<Series> {
        let Self::Series(series) = self else { panic!("the result has rows instead of series") };
        series
    }

    /// # Panics
    /// When it is the result of a PromQL query.
    pub fn rows(self) -> Rows {
        let Self::Rows(rows) = self else { panic!("the result has series instead of rows") };
        rows
    }
}

impl Rows {
    /// The value in a column, as a number; NULL is 0.
    pub fn number(&self, row: usize, column: &str) -> f64 {
        let at = self.columns.iter().position(|(name, _)| name == column);
        let at = at.unwrap_or_else(|| panic!("no column {column} in {:?}", self.columns));
        self.rows[row][at].as_deref().map_or(0.0, |text| text.parse().unwrap())
    }
}

fn variables<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

async fn run(settings: &[(&'static str, String)], arguments: &[&str]) {
    let finished = Program::run("millrace", arguments, &variables(settings)).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
}

async fn create_projects(settings: &[(&'static str, String)]) {
    let (events, rate) = (TRIAL_EVENTS.to_string(), "6000");
    run(settings, &["plan", "set", "trial", "--requests-per-minute", rate, "--events-per-month", &events])
        .await;
    for (name, plan) in PROJECTS {
        run(settings, &["project", "create", name, "--plan", plan, "--key", &key_of(name)]).await;
    }
    // Every event of its name has a value, and those of another event have none.
    for (slug, event, value) in [("revenue", "order_completed", "$.revenue"), ("items", POISON, "$.items")] {
        let create = ["meter", "create", "storefront", slug, "--event", event, "--aggregation", "sum"];
        run(settings, &[&create[..], &["--value", value]].concat()).await;
    }
}

/// Creates the database role of Grafana as an operator does, and connects with it.
async fn connect_as_reader(postgres: &Postgres) -> Client {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("grafana").join("reader.sql");
    // Twice, because running the script again must be safe.
    for _ in 0..2 {
        let mut psql = Command::new("psql");
        psql.arg(postgres.url())
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-v", "password=read only", "-f"])
            .arg(&script);
        let finished = psql.output().expect("psql comes with PostgreSQL");
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    }
    let mut config = postgres.config();
    let (client, connection) = config.user("millrace_dashboards").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
    client
}
