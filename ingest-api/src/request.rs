//! A request with a route, and the only way from a key to its account.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::http::request::Parts;
use time::OffsetDateTime;

use crate::access::{self, Access};
use crate::api_key::ApiKey;
use crate::auth::{self, CredentialsError};
use crate::error::Problem;
use crate::service::Service;

/// Everything of a request but its body.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub service: &'a Service,
    pub head: &'a Parts,
    /// The other end of the connection, which may be a proxy.
    pub peer: Option<IpAddr>,
    /// What the route asks of a key.
    pub access: Access,
    /// The segment of the path that `{id}` in the route's pattern stands for. Empty when the pattern has
    /// none.
    pub id: &'a str,
    /// The same for the second segment in brackets.
    pub second_id: &'a str,
    /// The largest body that the route takes, as it is sent. 0 when it takes none.
    pub body_bytes_max: usize,
}

/// Why a request has no caller.
#[derive(Debug)]
pub struct Refusal {
    pub problem: Problem,
    /// The key, if it is known and may not do this: the owner of its project should learn of it.
    pub key: Option<Arc<ApiKey>>,
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { problem: error.into(), key: None }
    }
}

impl Request<'_> {
    /// The key in the headers.
    ///
    /// # Errors
    /// As [`Request::admit`].
    pub fn caller(&self) -> Result<Arc<ApiKey>, Refusal> {
        self.admit(&auth::key_in_headers(&self.head.headers)?)
    }

    /// The key in the headers, or in the query: a beacon cannot have an `Authorization` header. `None` when
    /// both have none.
    ///
    /// # Errors
    /// As [`Request::admit`].
    pub fn beacon_caller(&self) -> Result<Option<Arc<ApiKey>>, Refusal> {
        let key = match auth::key_in_headers(&self.head.headers) {
            Err(CredentialsError::Missing) => auth::key_in_query(self.head.uri.query().unwrap_or_default()),
            key => key,
        };
        match key {
            Err(CredentialsError::Missing) => Ok(None),
            key => self.admit(&key?).map(Some),
        }
    }

    /// The address of the client, if the project of its key stores addresses and it is known.
    pub fn address_to_store(&self, key: &ApiKey) -> Option<IpAddr> {
        let peer = self.peer.filter(|_| key.account.policy.store_ip)?;
        self.service.trusted_proxies.client(&self.head.headers, peer)
    }

    /// Finds a key, checks that it may be used on this route and by this page, and notes its use.
    ///
    /// # Errors
    /// `unauthenticated`, `forbidden`, or `overloaded` before the accounts have been read.
    pub fn admit(&self, key: &str) -> Result<Arc<ApiKey>, Refusal> {
        let key = self.service.accounts.authenticate(key, OffsetDateTime::now_utc())?;
        match access::check(self.access, &key.account, self.head) {
            Ok(()) => {
                key.touch();
                Ok(key)
            }
            Err(error) => Err(Refusal { problem: error.into(), key: Some(key) }),
        }
    }
}
