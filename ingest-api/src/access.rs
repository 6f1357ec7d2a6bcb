//! What the key of a request may do: its scope against that of the route, and the pages that may use it.
//! Pure. Only `Request::admit` calls it, so that no route can forget it.

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER};
use hyper::http::request::Parts;
use millrace_event::plan::Account;
use millrace_event::policy::KeyScope;
use millrace_event::web_origin;

/// What a route asks of a key. Every row of the table of routes has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The route asks for no key.
    Open,
    /// The route takes events, or tells an SDK where to send them.
    Write,
    /// The route reports about the project.
    Read,
    /// The route changes what the project is billed for.
    Correct,
    /// The route manages the installation. No key of a project may use it; `admin` finds the others.
    Admin,
}

/// Why a known key is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ForbiddenError {
    #[error(
        "this path needs a key of scope {needed} or full, and the scope of this key is {has}; create another key with \
         `millrace key create PROJECT --scope {needed}`"
    )]
    Scope { needed: &'static str, has: &'static str },
    #[error(
        "this path needs a key of scope full, and the scope of this key is {has}; create another key with \
         `millrace key create PROJECT --scope full`"
    )]
    NotFull { has: &'static str },
    #[error("this path needs a key that no page has, and this key is for pages; use a key without origins")]
    ForPages,
    #[error(
        "this key is for pages of certain origins only, and the request does not have one Origin header; send the \
         request from such a page, or use a key without origins"
    )]
    NoOrigin,
    #[error(
        "this key is for pages of certain origins only, and the Origin of the request is none of them; create a key \
         for it with `millrace key create PROJECT --origin ORIGIN`"
    )]
    OtherOrigin,
}

/// Checks a key that is known.
///
/// # Errors
/// [`ForbiddenError`].
pub fn check(access: Access, account: &Account, head: &Parts) -> Result<(), ForbiddenError> {
    let needed = match access {
        Access::Write => KeyScope::Write,
        Access::Read => KeyScope::Read,
        // A route that asks for no key gives nothing for one.
        Access::Admin | Access::Correct | Access::Open => KeyScope::Full,
    };
    if access == Access::Correct {
        return check_correction(account);
    }
    if !account.scope.allows(needed) {
        return Err(ForbiddenError::Scope { needed: needed.into(), has: account.scope.into() });
    }
    if account.allowed_origins.is_empty() {
        return Ok(());
    }
    let origin = origin_of(head).ok_or(ForbiddenError::NoOrigin)?;
    let is_listed = web_origin::is_listed(&account.allowed_origins, origin);
    if is_listed { Ok(()) } else { Err(ForbiddenError::OtherOrigin) }
}

/// A correction is for servers: the key of a page is public.
fn check_correction(account: &Account) -> Result<(), ForbiddenError> {
    if account.scope != KeyScope::Full {
        return Err(ForbiddenError::NotFull { has: account.scope.into() });
    }
    if account.allowed_origins.is_empty() { Ok(()) } else { Err(ForbiddenError::ForPages) }
}

/// The origin of the page that sends the request. A browser sends no `Origin` when a page gets something from
/// its own origin; then the `Referer` has it. Several are a forgery, and none.
fn origin_of(head: &Parts) -> Option<&str> {
    if head.headers.contains_key(ORIGIN) {
        return only(&head.headers, &ORIGIN)?.to_str().ok();
    }
    if head.method != Method::GET && head.method != Method::HEAD {
        return None;
    }
    let page = only(&head.headers, &REFERER)?.to_str().ok()?;
    let authority = page.find("://")? + 3;
    let end = page[authority..].find(['/', '?', '#']).map_or(page.len(), |end| authority + end);
    Some(&page[..end])
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::Request;
    use millrace_event::plan::{Plan, ProjectId};
    use millrace_event::policy::ProjectPolicy;

    use super::*;

    fn account(scope: KeyScope, origins: &[&str]) -> Account {
        let plan = Plan {
            name: "test".into(),
            requests_per_minute: 60,
            burst: 60,
            events_per_month: None,
            events_per_batch: 10,
        };
        Account {
            project: ProjectId(1),
            project_name: "shop".into(),
            key_id: 1,
            key_hash: [0; 32],
            plan: Arc::new(plan),
            policy: ProjectPolicy::default(),
            scope,
            allowed_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            expires_at: None,
            signing_secrets: Vec::new(),
        }
    }

    fn head(method: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_scope_does_what_it_names_and_full_does_both() {
        let allowed = |access, scope| check(access, &account(scope, &[]), &head("POST", &[])).is_ok();
        for (access, write, read) in
            [(Access::Write, true, false), (Access::Read, false, true), (Access::Open, false, false)]
                .into_iter()
                .chain([(Access::Correct, false, false)])
        {
            let scopes = [KeyScope::Write, KeyScope::Read, KeyScope::Full];
            assert_eq!(scopes.map(|scope| allowed(access, scope)), [write, read, true], "{access:?}");
        }
    }

    #[test]
    fn a_key_with_origins_is_for_pages_of_these_origins_only() {
        let account = account(KeyScope::Write, &["https://shop.example"]);
        let check = |method, fields: &[_]| check(Access::Write, &account, &head(method, fields));
        assert_eq!(check("POST", &[("origin", "https://shop.example")]), Ok(()));
        assert_eq!(check("POST", &[]), Err(ForbiddenError::NoOrigin));
        let other = Err(ForbiddenError::OtherOrigin);
        for origin in ["https://evil.example", "null", "", "https://shop.example/", "http://shop.example"] {
            let expected = if origin.ends_with("example/") { Ok(()) } else { other };
            assert_eq!(check("POST", &[("origin", origin)]), expected, "{origin:?}");
        }
        let twice = [("origin", "https://shop.example"), ("origin", "https://shop.example")];
        assert_eq!(check("POST", &twice), Err(ForbiddenError::NoOrigin));
    }

    #[test]
    fn a_key_for_pages_corrects_nothing_with_any_scope() {
        let account = account(KeyScope::Full, &["https://shop.example"]);
        let head = head("POST", &[("origin", "https://shop.example")]);
        assert_eq!(check(Access::Correct, &account, &head), Err(ForbiddenError::ForPages));
        assert_eq!(check(Access::Write, &account, &head), Ok(()));
    }

    #[test]
    fn a_page_that_gets_something_from_its_own_origin_is_known_by_its_referer() {
        let account = account(KeyScope::Full, &["https://shop.example"]);
        let page = ("referer", "https://shop.example/checkout?step=2");
        let check = |method, fields: &[_]| check(Access::Read, &account, &head(method, fields));
        assert_eq!(check("GET", &[page]), Ok(()));
        assert_eq!(check("POST", &[page]), Err(ForbiddenError::NoOrigin), "a post always has an Origin");
        let both = [page, ("origin", "https://evil.example")];
        assert_eq!(check("GET", &both), Err(ForbiddenError::OtherOrigin));
        for other in ["https://evil.example/?https://shop.example/", "https://shop.example.evil.example/"] {
            assert_eq!(check("GET", &[("referer", other)]), Err(ForbiddenError::OtherOrigin), "{other}");
        }
    }
}
