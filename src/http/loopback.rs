//! Hosts that a browser on this machine may name.
//!
//! A page elsewhere can make its own name resolve to a loopback address, and its scripts then reach what listens there
//! (DNS rebinding). Such a request has that name as its `Host`. So a listener without a password answers only where
//! `Host` names this machine.

use http::{HeaderMap, header};

/// `localhost` or a loopback address, with or without a port. No other name is accepted: its owner could make it
/// resolve to this machine.
pub fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let address = bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    address || name.eq_ignore_ascii_case("localhost")
}

/// Does the request come to this machine by a name of this machine? A browser always sends a `Host`; a program of
/// HTTP/1.0 may send none.
pub fn is_for_this_machine(headers: &HeaderMap) -> bool {
    headers.get(header::HOST).is_none_or(|host| host.to_str().is_ok_and(is_loopback))
}

/// Is a browser at the other end? Each request of a browser has one of these headers, and no script can take it away.
/// Command-line clients send none of them.
pub fn is_of_a_browser(headers: &HeaderMap) -> bool {
    ["origin", "sec-fetch-site", "accept-language"].iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_accepted() {
        let good = ["localhost", "LocalHost:9100", "127.0.0.1", "127.8.9.1:80", "[::1]:9100", "[::ffff:127.0.0.1]"];
        for host in good {
            assert!(is_loopback(host), "{host}");
        }
        let bad = [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1:9100",
            "[::2]",
            "a@localhost",
            "127.0.0.1.evil.example",
        ];
        for host in bad {
            assert!(!is_loopback(host), "{host}");
        }
        let mut headers = HeaderMap::new();
        assert!(is_for_this_machine(&headers) && !is_of_a_browser(&headers));
        headers.insert(header::HOST, http::HeaderValue::from_static("evil.example"));
        headers.insert(header::ACCEPT_LANGUAGE, http::HeaderValue::from_static("en"));
        assert!(!is_for_this_machine(&headers) && is_of_a_browser(&headers));
    }
}
