//! What SDKs in web pages ask for before they send anything: `GET /v1/projects/KEY/settings` of Segment's,
//! and `GET /sourceConfig` of RudderStack's. The answers name this server as the only destination, so that a
//! page needs nothing but our address and a key. They must never name a server of a vendor, nor tell anything
//! about the project.

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::answer::{self, Answer};
use crate::auth::{self, CredentialsError};
use crate::public_address::PublicAddress;
use crate::request::{Refusal, Request};

/// `GET /v1/projects/{key}/settings`
///
/// # Errors
/// `unauthenticated`, `forbidden`, and `invalid_header` without a host.
pub fn segment_settings(request: Request<'_>) -> Result<Answer, Refusal> {
    let key = percent_decode_str(request.id).decode_utf8().map_err(|_| CredentialsError::Malformed)?;
    let key = auth::checked_key(key.into_owned())?;
    request.admit(&key)?;
    let PublicAddress { scheme, rest } = PublicAddress::of(request.head)?;
    let settings = json!({
        // One integration: a second one would make the SDK load its code from the vendor.
        "integrations": {
            "Segment.io": {
                "apiKey": key,
                "apiHost": format!("{rest}/v1"),
                "protocol": scheme,
                "addBundledMetadata": false,
                "unbundledIntegrations": [],
            },
        },
        // Figures about the SDK, which it sends to its vendor unless none are to be taken.
        "metrics": { "sampleRate": 0, "host": format!("{rest}/v1") },
        "plan": {},
        "edgeFunction": {},
        "analyticsNextEnabled": true,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "legacyVideoPluginsEnabled": false,
        "remotePlugins": [],
    });
    Ok(answer::json(StatusCode::OK, &settings))
}

/// `GET /sourceConfig`
///
/// # Errors
/// `unauthenticated` and `forbidden`.
pub fn source_config(request: Request<'_>) -> Result<Answer, Refusal> {
    request.beacon_caller()?.ok_or(CredentialsError::Missing)?;
    let off = json!({ "enabled": false });
    let config = json!({
        "source": {
            "id": "millrace",
            "name": "millrace",
            "workspaceId": "millrace",
            "enabled": true,
            // Figures and errors of the SDK, which it would send to its vendor.
            "config": { "statsCollection": { "errors": off, "metrics": off } },
            "connections": [],
            "destinations": [],
            "dataplanes": {},
        },
        "updatedAt": "1970-01-01T00:00:00.000Z",
    });
    Ok(answer::json(StatusCode::OK, &config))
}
