//! The peers in Rust: a service with Millrace's validator that stores the events of a request in one of three
//! ways. It checks the key; it has no plans, no metering and no ledger.
//!
//! It runs in a separate process, as a hidden command of this program.

use std::sync::Arc;

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
use millrace_event::event::Origin;
use millrace_event::plan::ProjectId;
use testkit::{Launch, Program};
use tokio::net::TcpListener;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::name::SubjectName;
use super::servers::{key, postgres, prepare_database};
use super::subject::{Subject, wait_until_ready};
use super::table::EventsTable;
use super::{copy_in_request, outbox, unnest_in_request};
use crate::error::BenchError;
use crate::load::Target;

/// The size of direct_insert's pool.
const CONNECTIONS: usize = 10;
const BATCH_EVENTS_MAX: usize = 1_000;

/// How a peer stores the events of a request.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storing {
    Copy,
    Unnest,
    Outbox,
}

impl Storing {
    fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Unnest => "unnest",
            Self::Outbox => "outbox",
        }
    }
}

pub(super) async fn start(name: SubjectName) -> Result<Subject, BenchError> {
    let storing = match name {
        SubjectName::UnnestInRequest => Storing::Unnest,
        SubjectName::Outbox => Storing::Outbox,
        _ => Storing::Copy,
    };
    let server = postgres(None).await;
    let project = prepare_database(&server).await?;
    if storing == Storing::Outbox {
        server.connect().await.batch_execute(outbox::CREATE).await?;
    }
    let (url, number) = (server.url(), project.to_string());
    let arguments = ["--database-url", &url, "--project", &number];
    let launch = |arguments: &[&str]| Program::launch("bench", &Launch { arguments, ..Launch::default() });
    let mut service = launch(&[&["serve-peer", "--storing", storing.name()][..], &arguments].concat());
    let target = Target::new(service.address().await, key(0));
    wait_until_ready(&target, "/readyz").await;
    let mut programs = vec![(name.as_str(), service)];
    let table = if storing == Storing::Outbox {
        programs.push(("outbox-worker", launch(&[&["drain-outbox"][..], &arguments].concat())));
        EventsTable::postgres_counted_by(server, project, outbox::SETTLED).await?
    } else {
        EventsTable::postgres(server, project).await?
    };
    Ok(Subject::on_postgres(name, target, programs, table))
}

struct Service {
    pool: Pool,
    project: ProjectId,
    authorization: String,
    storing: Storing,
}

/// Serves until the process is killed.
///
/// # Errors
/// When `database_url` is invalid, or the service cannot listen.
pub async fn serve(database_url: &str, project: i64, storing: Storing) -> Result<(), BenchError> {
    let config = database_url.parse()?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, recycling);
    let pool = Pool::builder(manager).max_size(CONNECTIONS).runtime(Runtime::Tokio1).build()?;
    let authorization = format!("Bearer {}", key(0));
    let service = Arc::new(Service { pool, project: ProjectId(project), authorization, storing });
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
        let stored = async {
            let client = self.pool.get().await?;
            match self.storing {
                Storing::Copy => copy_in_request::store(&client, &batch).await,
                Storing::Unnest => unnest_in_request::store(&client, &batch).await,
                Storing::Outbox => outbox::store(&client, &body, batch.count).await,
            }
        };
        match stored.await {
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
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
