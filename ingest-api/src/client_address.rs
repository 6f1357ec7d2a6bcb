//! The address of a client, for projects that store it: that of its connection, or behind trusted proxies
//! what they say. Pure: no I/O.
//!
//! Anyone can send `X-Forwarded-For` and `Forwarded`. They are read only on connections from trusted proxies,
//! and from their end, where each proxy adds the address of its own client: the first address that is not of
//! a trusted proxy is the client's. Where that is not clear, there is no address: an event without one is
//! better than one with an address that somebody made up.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most networks of trusted proxies.
const NETWORKS_MAX: usize = 100;
/// Most proxies that a request may have passed.
const PROXIES_MAX: usize = 32;

/// The setting `TRUSTED_PROXIES`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads a list of addresses and networks, separated by commas, or `none`.
    ///
    /// # Errors
    /// What is expected in place of this text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        let network = |text: &str| {
            let text = text.trim();
            let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            network.ok_or_else(|| {
                "expected none, or addresses and networks separated by commas, such as 10.0.0.5,192.168.0.0/16"
                    .to_owned()
            })
        };
        let networks = text.split(',').map(network).collect::<Result<Vec<_>, _>>()?;
        if networks.len() > NETWORKS_MAX {
            return Err(format!("expected at most {NETWORKS_MAX} addresses and networks"));
        }
        Ok(Self(networks))
    }

    /// The address of the client of a request with these headers, on a connection from this peer.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return Some(peer);
        }
        let (ours, standard) =
            (self.last_foreign(headers, Notation::List), self.last_foreign(headers, Notation::Pairs));
        match (ours, standard) {
            (Said::Nothing, Said::Nothing) => Some(peer),
            (Said::Client(client), Said::Nothing) | (Said::Nothing, Said::Client(client)) => Some(client),
            // A proxy that writes one of the headers passes on the other as its client sent it.
            (Said::Client(one), Said::Client(other)) if one == other => Some(one),
            _ => None,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The last address in a header that is of no trusted proxy, or else the first address.
    fn last_foreign(&self, headers: &HeaderMap, notation: Notation) -> Said {
        let values: Vec<_> = headers.get_all(notation.header()).iter().collect();
        let mut said = Said::Nothing;
        let mut passed = 0;
        for value in values.iter().rev() {
            let Ok(value) = value.to_str() else { return Said::Unclear };
            for element in value.rsplit(',') {
                let Some(address) = notation.address(element) else { return Said::Unclear };
                passed += 1;
                if passed > PROXIES_MAX {
                    return Said::Unclear;
                }
                said = Said::Client(address);
                if !self.contains(address) {
                    return said;
                }
            }
        }
        said
    }
}

/// What a header says of the client.
enum Said {
    /// The request does not have it.
    Nothing,
    /// It is malformed, hides an address or is too long.
    Unclear,
    Client(IpAddr),
}

/// The header of a list of addresses.
#[derive(Clone, Copy)]
enum Notation {
    /// `X-Forwarded-For: ADDRESS, ADDRESS`
    List,
    /// `Forwarded: for=ADDRESS;proto=https, for=ADDRESS` (RFC 7239)
    Pairs,
}

impl Notation {
    fn header(self) -> HeaderName {
        match self {
            Self::List => X_FORWARDED_FOR,
            Self::Pairs => FORWARDED,
        }
    }

    /// The address in one element of the list.
    fn address(self, element: &str) -> Option<IpAddr> {
        let node = match self {
            Self::List => element.trim(),
            Self::Pairs => {
                let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
                let mut nodes =
                    pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, node)| node);
                let node = nodes.next().filter(|_| nodes.next().is_none())?;
                node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node)
            }
        };
        let unbracketed = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
        let address = unbracketed.parse().ok().or_else(|| Some(node.parse::<SocketAddr>().ok()?.ip()));
        address.map(|address: IpAddr| address.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn client(trusted: &str, peer: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let trusted = TrustedProxies::parse(trusted).unwrap();
        trusted.client(&map, peer.parse().unwrap()).map(|address| address.to_string())
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn without_a_trusted_proxy_the_client_is_the_peer_and_its_headers_do_not_count() {
        let said = [(XFF, "203.0.113.9"), ("forwarded", "for=203.0.113.9"), ("x-real-ip", "203.0.113.9")];
        for trusted in ["none", "10.0.0.0/8"] {
            assert_eq!(client(trusted, "192.0.2.1", &said).as_deref(), Some("192.0.2.1"));
            assert_eq!(client(trusted, "::ffff:192.0.2.1", &said).as_deref(), Some("192.0.2.1"));
        }
    }

    #[test]
    fn behind_trusted_proxies_the_client_is_the_last_address_that_is_none_of_theirs() {
        for (headers, expected) in [
            (&[][..], Some("10.0.0.1")),
            (&[(XFF, "203.0.113.9")], Some("203.0.113.9")),
            (&[(XFF, "203.0.113.9, 10.0.0.2")], Some("203.0.113.9")),
            (&[(XFF, "6.6.6.6, 203.0.113.9"), (XFF, "10.0.0.2")], Some("203.0.113.9")),
            (&[(XFF, "10.0.0.3,10.0.0.2")], Some("10.0.0.3")),
            (&[(XFF, "203.0.113.9:4711")], Some("203.0.113.9")),
            (&[(XFF, "2001:db8::9")], Some("2001:db8::9")),
            (&[(XFF, "[2001:db8::9]:4711")], Some("2001:db8::9")),
            (&[(XFF, "::ffff:203.0.113.9")], Some("203.0.113.9")),
            (&[("forwarded", "for=203.0.113.9;proto=https;by=10.0.0.1")], Some("203.0.113.9")),
            (&[("forwarded", "For=\"[2001:db8::9]:4711\", for=10.0.0.2")], Some("2001:db8::9")),
            (&[(XFF, "203.0.113.9"), ("forwarded", "for=203.0.113.9")], Some("203.0.113.9")),
            (&[(XFF, "203.0.113.9"), ("forwarded", "for=6.6.6.6")], None),
            (&[(XFF, "203.0.113.9"), ("forwarded", "junk")], None),
        ] {
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", headers).as_deref(), expected, "{headers:?}");
        }
    }

    #[test]
    fn what_is_not_clear_is_no_address() {
        let long = vec!["10.0.0.2"; PROXIES_MAX + 1].join(",");
        for said in [
            "",
            "unknown",
            "203.0.113.9,",
            "203.0.113.9 10.0.0.2",
            "203.0.113.999",
            "host.example",
            "fe80::1%eth0",
            &long,
        ] {
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", &[(XFF, said)]), None, "{said:?}");
        }
        for said in ["for=unknown", "for=_hidden", "proto=https", "for=1.1.1.1;for=2.2.2.2", "for=\"1.1.1.1"]
        {
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", &[("forwarded", said)]), None, "{said:?}");
        }
    }

    #[test]
    fn the_setting_is_a_list_of_addresses_and_networks() {
        for text in ["none", "10.0.0.1", "10.0.0.0/8, ::1,2001:db8::/32"] {
            assert!(TrustedProxies::parse(text).is_ok(), "{text}");
        }
        let many = vec!["10.0.0.1"; NETWORKS_MAX + 1].join(",");
        for text in ["", "all", "10.0.0.1,", "10.0.0.0/33", "proxy.example", "10.0.0.1;10.0.0.2", &many] {
            assert!(TrustedProxies::parse(text).is_err(), "{text}");
        }
    }
}
