//! A request with a route, and the only way from a key to its account.

use std::sync::Arc;

use hyper::http::request::Parts;
use time::OffsetDateTime;

use crate::access::{self, Access};
use crate::accounts::ApiKey;
use crate::auth::{self, CredentialsError};
use crate::error::Problem;
use crate::service::Service;

/// Everything of a request but its body.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub service: &'a Service,
    pub head: &'a Parts,
    /// What the route asks of a key.
    pub access: Access,
    /// The segment of the path that `{id}` in the route's pattern stands for. Empty when the pattern has
    /// none.
    pub id: &'a str,
}

impl Request<'_> {
    /// The key in the headers.
    ///
    /// # Errors
    /// As [`Request::admit`].
    pub fn caller(&self) -> Result<Arc<ApiKey>, Problem> {
        self.admit(&auth::key_in_headers(&self.head.headers)?)
    }

    /// The key in the headers, or in the query: a beacon cannot have an `Authorization` header. `None` when
    /// both have none.
    ///
    /// # Errors
    /// As [`Request::admit`].
    pub fn beacon_caller(&self) -> Result<Option<Arc<ApiKey>>, Problem> {
        let key = match auth::key_in_headers(&self.head.headers) {
            Err(CredentialsError::Missing) => auth::key_in_query(self.head.uri.query().unwrap_or_default()),
            key => key,
        };
        match key {
            Err(CredentialsError::Missing) => Ok(None),
            key => self.admit(&key?).map(Some),
        }
    }

    /// Finds a key, checks that it may be used on this route and by this page, and notes its use.
    ///
    /// # Errors
    /// `unauthenticated`, `forbidden`, or `overloaded` before the accounts have been read.
    pub fn admit(&self, key: &str) -> Result<Arc<ApiKey>, Problem> {
        let key = self.service.accounts.authenticate(key, OffsetDateTime::now_utc())?;
        access::check(self.access, &key.account, self.head)?;
        key.touch();
        Ok(key)
    }
}
