//! The hosts that notifications may be sent to although their addresses are not public.

use std::sync::Arc;

use url::Host;

/// Hosts that an operator allows by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowedHosts(Arc<[Host]>);

impl AllowedHosts {
    pub fn has(&self, host: &Host) -> bool {
        self.0.contains(host)
    }
}

/// Parses the setting: hosts, separated by commas.
///
/// # Errors
/// When a part is no host.
pub fn allowed_hosts(text: &str) -> Result<AllowedHosts, String> {
    let host = |part: &str| {
        let part = part.trim().trim_end_matches('.');
        Host::parse(part).map_err(|_| {
            format!(
                "expected hosts separated by commas, such as hooks.internal,10.0.0.7,[fd00::1], without ports; \
                 {part:?} is none"
            )
        })
    };
    Ok(AllowedHosts(text.split(',').map(host).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_allowed_in_any_notation_and_no_other_is() {
        let allowed = allowed_hosts("Hooks.Internal., 10.0.0.7,[fd00::1]").unwrap();
        for (host, is_allowed) in [
            ("hooks.internal", true),
            ("HOOKS.internal", true),
            ("10.0.0.7", true),
            ("0x0a000007", true),
            ("[fd00:0::1]", true),
            ("evil.hooks.internal", false),
            ("10.0.0.8", false),
        ] {
            assert_eq!(allowed.has(&Host::parse(host).unwrap()), is_allowed, "{host}");
        }
        assert!(!AllowedHosts::default().has(&Host::parse("localhost").unwrap()));
    }

    #[test]
    fn a_part_that_is_no_host_is_refused() {
        for text in ["http://hooks", "hooks:80", "a,,b", "fd00::1", "10.0.0.0/8"] {
            assert!(allowed_hosts(text).is_err(), "{text}");
        }
    }
}
