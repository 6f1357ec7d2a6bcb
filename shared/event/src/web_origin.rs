//! Origins of web pages: `scheme://host[:port]`, as browsers write them in the header `Origin`. Pure. It must
//! never accept a text that no browser sends, because a key with such an origin would refuse every page.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Most origins of one key.
pub const ORIGINS_MAX: usize = 100;
/// Longest origin, in bytes: a host has at most 253.
const ORIGIN_BYTES_MAX: usize = 300;

/// The origin in the spelling of browsers: in lower case, without the port that belongs to the scheme, and
/// without a slash at its end.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn normalize(text: &str) -> Result<String, String> {
    let example = "write scheme://host[:port], such as https://shop.example";
    if text == "*" || text.eq_ignore_ascii_case("null") {
        return Err(format!("{text} is no origin; {example}, or give no origin to allow every client"));
    }
    if text.len() > ORIGIN_BYTES_MAX {
        return Err(format!("an origin has at most {ORIGIN_BYTES_MAX} bytes"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{text:?} has no scheme; {example}"));
    };
    let mut letters = scheme.bytes();
    if !letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        || !letters.all(|letter| letter.is_ascii_alphanumeric() || b"+-.".contains(&letter))
    {
        return Err(format!("{scheme:?} is no scheme; {example}"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(end) = authority.find(['/', '?', '#']) {
        return Err(format!("an origin has no path; write {scheme}://{}", &authority[..end]));
    }
    let (host, port) =
        split_port(authority).ok_or_else(|| format!("{text:?} has a wrong port; {example}"))?;
    let host = normal_host(host).map_err(|what| format!("{text:?} {what}; {example}"))?;
    let scheme = scheme.to_ascii_lowercase();
    let own_port = match scheme.as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    let port = port.filter(|port| Some(*port) != own_port).map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{scheme}://{host}{port}"))
}

/// Whether one of the origins, in the spelling of [`normalize`], is that of the header `Origin`.
pub fn is_listed(origins: &[String], header: &str) -> bool {
    normalize(header).is_ok_and(|origin| origins.iter().any(|listed| listed.eq_ignore_ascii_case(&origin)))
}

/// The host and the port. `None` when the port is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    // The colons of an IPv6 address are inside brackets. Without the closing one, there is no port.
    let after_address = match authority.rfind(']') {
        Some(end) => end + 1,
        None if authority.starts_with('[') => return Some((authority, None)),
        None => 0,
    };
    match authority[after_address..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(after_address + colon);
            let digits = &port[1..];
            let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?.map(|port| (host, Some(port)))
        }
    }
}

/// The host as browsers write it: in lower case, and an IPv6 address in its shortest form without an IPv4
/// part.
fn normal_host(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|text| text.parse::<Ipv6Addr>().ok());
        return address.map(shown_address).ok_or("has a wrong IPv6 address");
    }
    if !host.is_ascii() {
        return Err(
            "has a host that is not ASCII; browsers send such a host in its form that begins with xn--",
        );
    }
    if host.is_empty() {
        return Err("has no host");
    }
    if host.contains('*') {
        return Err("has a wildcard; list each origin");
    }
    if host.contains('@') {
        return Err("has a user name");
    }
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"-._~".contains(&letter);
    if !host.bytes().all(is_allowed) {
        return Err("has a wrong host");
    }
    // Browsers read a host whose last part is a number as an IPv4 address, and write all four of its parts.
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = (!last.is_empty() && last.bytes().all(|digit| digit.is_ascii_digit()))
        || hex.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err("has a wrong IPv4 address; write its four numbers, such as 127.0.0.1");
    }
    Ok(host.to_ascii_lowercase())
}

/// An IPv6 address as the URL Standard writes it. Rust writes the end of some addresses as IPv4.
fn shown_address(address: Ipv6Addr) -> String {
    let is_mixed = address.to_string().contains('.');
    if !is_mixed {
        return format!("[{address}]");
    }
    let [.., before, last] = address.segments();
    if address.to_ipv4_mapped().is_some() {
        format!("[::ffff:{before:x}:{last:x}]")
    } else {
        format!("[::{before:x}:{last:x}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for (text, normal) in [
            ("https://shop.example", "https://shop.example"),
            ("HTTPS://Shop.Example/", "https://shop.example"),
            ("https://shop.example:443", "https://shop.example"),
            ("http://shop.example:80/", "http://shop.example"),
            ("http://shop.example:443", "http://shop.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
            ("https://[2001:DB8::00a:0:0]", "https://[2001:db8::a:0:0]"),
            ("http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]"),
            ("http://[::ffff:7f00:1]", "http://[::ffff:7f00:1]"),
            ("http://[::1.2.3.4]", "http://[::102:304]"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("https://1and1.example", "https://1and1.example"),
            ("https://shop.example.", "https://shop.example."),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ] {
            assert_eq!(normalize(text).as_deref(), Ok(normal), "{text}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_what_to_write() {
        for (text, says) in [
            ("*", "give no origin to allow every client"),
            ("null", "give no origin to allow every client"),
            ("", "has no scheme"),
            ("shop.example", "has no scheme"),
            ("//shop.example", "has no scheme"),
            ("1https://shop.example", "is no scheme"),
            ("https://", "has no host"),
            ("https://shop.example/checkout", "write https://shop.example"),
            ("https://shop.example?x", "write https://shop.example"),
            ("https://shop.example//", "write https://shop.example"),
            ("https://*.shop.example", "list each origin"),
            ("https://user@shop.example", "user name"),
            ("https://shop.example:", "wrong port"),
            ("https://shop.example:65536", "wrong port"),
            ("https://shop.example:https", "wrong port"),
            ("https://[::1", "wrong IPv6 address"),
            ("https://[fe80::1%25eth0]", "wrong IPv6 address"),
            ("http://127.1", "wrong IPv4 address"),
            ("http://0x7f.1", "wrong IPv4 address"),
            ("http://0x7f000001", "wrong IPv4 address"),
            ("http://2130706433", "wrong IPv4 address"),
            ("http://127.0.0.01", "wrong IPv4 address"),
            ("http://256.0.0.1", "wrong IPv4 address"),
            ("http://127.0.0.1.", "wrong IPv4 address"),
            ("https://shop example", "wrong host"),
            ("https://büro.example", "xn--"),
        ] {
            let refused = normalize(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
        assert!(normalize(&format!("https://{}", "a".repeat(300))).is_err());
    }

    #[test]
    fn scheme_and_host_are_compared_without_case_and_everything_else_exactly() {
        let listed = ["https://shop.example".to_owned(), "http://localhost:3000".to_owned()];
        for (header, allowed) in [
            ("https://shop.example", true),
            ("HTTPS://SHOP.example", true),
            ("https://shop.example:443", true),
            ("http://localhost:3000", true),
            ("http://shop.example", false),
            ("https://shop.example:8443", false),
            ("https://shop.example.evil.example", false),
            ("https://evil-shop.example", false),
            ("http://localhost", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(is_listed(&listed, header), allowed, "{header}");
        }
    }
}
