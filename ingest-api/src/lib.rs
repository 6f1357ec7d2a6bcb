//! The HTTP API. It turns requests into calls of [`millrace_stream::Stream::admit`], and the decisions into
//! answers.
//!
//! `server` accepts connections, [`routes`] finds the function of each request, `ingest` is the path of a
//! batch up to `admission`, `sdk` has the protocols of SDKs, and `error` turns every reason for a refusal
//! into an answer. [`status`] is a page for people, and `rejections` keeps what was refused for the owners of
//! projects. In the background, `accounts` keeps keys and plans fresh and [`millrace_reconcile::keeper`]
//! checks the stream.
//!
//! This crate must never acknowledge a batch that the stream has not admitted, wait for the store on the path
//! of a batch, or log a body or a key.

mod access;
mod account_index;
mod accounts;
mod admin;
mod admission;
mod answer;
mod api_key;
mod audience;
mod auth;
mod batch_ids;
mod batches;
mod body;
mod body_reader;
mod bootstrap;
mod cancel;
mod client_address;
mod client_socket;
pub mod config;
pub mod connection;
pub mod connection_state;
mod cores;
mod cors;
pub mod documents;
mod encoding;
mod error;
mod form;
mod framing;
mod handlers;
mod headers;
mod health;
mod ingest;
mod limit_snapshot;
mod limits;
mod listener;
mod meters;
pub mod metrics;
mod offload;
mod openapi;
mod pace;
mod packing;
mod parameters;
mod problem_code;
mod project;
mod public_address;
mod ratelimit;
mod rejections;
mod reports;
mod request;
mod route;
pub mod routes;
mod run;
mod sdk;
mod server;
mod service;
mod sharded_map;
mod signature;
mod stage;
pub mod status;
mod statuses;
mod text;
mod usage;
mod verdict;
mod wait;

pub use access::Access;
pub use audience::{Audience, StatusPage};
pub use client_address::TrustedProxies;
pub use listener::listen;
pub use run::{Scrape, run};
pub use service::Deps;
