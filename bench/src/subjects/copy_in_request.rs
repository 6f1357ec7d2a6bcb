//! The strongest simple alternative to a queue: a service with Millrace's validator that runs a binary COPY
//! inside the request. It has no queue, no ledger and no metering.
//!
//! It runs in a separate process, as a hidden command of this program. A batch that contains a duplicate is
//! copied a second time, into a temporary table, and its new events are inserted from there.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_event::dialect::{self, native};
use millrace_event::event::{Batch, Origin};
use millrace_event::plan::ProjectId;
use millrace_event::row;
use testkit::{Launch, Program};
use tokio::net::TcpListener;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::name::SubjectName;
use super::servers::{KEY, postgres, prepare_database};
use super::subject::{Subject, wait_until_ready};
use super::table::EventsTable;
use crate::binary_copy;
use crate::error::BenchError;
use crate::load::Target;

/// The size of direct_insert's pool.
const CONNECTIONS: usize = 10;
const BATCH_EVENTS_MAX: usize = 1_000;
const STAGE: &str = "CREATE TEMPORARY TABLE IF NOT EXISTS stage (LIKE events) ON COMMIT DELETE ROWS";

pub(super) async fn start(data_folder: Option<&Path>) -> Result<Subject, BenchError> {
    let server = postgres(data_folder).await;
    let project = prepare_database(&server).await?;
    let (url, number) = (server.url(), project.to_string());
    let arguments = ["serve-copy", "--database-url", &url, "--project", &number];
    let mut program = Program::launch("bench", &Launch { arguments: &arguments, ..Launch::default() });
    let target = Target { address: program.address().await, key: KEY.to_owned(), days_ago: 0 };
    wait_until_ready(&target, "/readyz").await;
    let table = EventsTable::postgres(server, project).await?;
    let programs = vec![("copy_in_request", program)];
    let (name, variables) = (SubjectName::CopyInRequest, Vec::new());
    Ok(Subject { name, target, programs, redis: None, table, variables })
}

struct Service {
    pool: Pool,
    project: ProjectId,
    authorization: String,
}

/// Serves until the process is killed.
///
/// # Errors
/// When `database_url` is invalid, or the service cannot listen.
pub async fn serve(database_url: &str, project: i64) -> Result<(), BenchError> {
    let config = database_url.parse()?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, recycling);
    let pool = Pool::builder(manager).max_size(CONNECTIONS).runtime(Runtime::Tokio1).build()?;
    let authorization = format!("Bearer {KEY}");
    let service = Arc::new(Service { pool, project: ProjectId(project), authorization });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = Arc::clone(&service);
        let answer = service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { service.answer(request).await }
        });
        // The task ends when the client closes the connection.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        if request.method() == Method::GET {
            return Ok(Response::new(Full::default()));
        }
        if request.headers().get(AUTHORIZATION).is_none_or(|key| key != self.authorization.as_str()) {
            return Ok(status(StatusCode::UNAUTHORIZED));
        }
        let body = request.into_body().collect().await?.to_bytes();
        let origin = Origin::new(self.project, Uuid::now_v7());
        let Ok(batch) = dialect::read(&native::JSON, &body, origin, BATCH_EVENTS_MAX) else {
            return Ok(status(StatusCode::BAD_REQUEST));
        };
        match self.store(&batch).await {
            Ok(()) => {
                let mut answer = status(StatusCode::ACCEPTED);
                *answer.body_mut() = format!("{{\"accepted\":{},\"rejected\":[]}}", batch.count).into();
                Ok(answer)
            }
            Err(error) => {
                eprintln!("batch not stored: {error}");
                Ok(status(StatusCode::SERVICE_UNAVAILABLE))
            }
        }
    }

    async fn store(&self, batch: &Batch) -> Result<(), BenchError> {
        let client = self.pool.get().await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let received_us = i64::try_from(now.as_micros())?;
        let data = binary_copy::framed(batch.rows.len(), |data| {
            for row in row::split(&batch.rows) {
                row::write_stamped(row.map_err(io::Error::other)?, received_us, data);
            }
            Ok(())
        })?;
        match binary_copy::send(&client, "events", data.clone()).await {
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                insert_new_events(&client, data).await
            }
            sent => Ok(sent.map(|_| ())?),
        }
    }
}

async fn insert_new_events(client: &Client, data: Bytes) -> Result<(), BenchError> {
    client.batch_execute(STAGE).await?;
    client.batch_execute("BEGIN").await?;
    let inserted = async {
        binary_copy::send(client, "stage", data).await?;
        client.batch_execute("INSERT INTO events SELECT * FROM stage ON CONFLICT DO NOTHING; COMMIT").await
    };
    if let Err(error) = inserted.await {
        client.batch_execute("ROLLBACK").await?;
        return Err(error.into());
    }
    Ok(())
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
