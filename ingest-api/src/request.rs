//! A request with a route.

use hyper::http::request::Parts;

use crate::service::Service;

/// Everything of a request but its body.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub service: &'a Service,
    pub head: &'a Parts,
    /// The segment of the path that `{id}` in the route's pattern stands for. Empty when the pattern has
    /// none.
    pub id: &'a str,
    /// The largest body that the route takes, as it is sent. 0 when it takes none.
    pub body_bytes_max: usize,
}
