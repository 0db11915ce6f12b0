//! The address of a client, as the limits on new users count it.
//!
//! Behind a proxy each connection comes from the proxy. `X-Forwarded-For` names the client then, but every client can
//! send that header. So the daemon believes it from `http.trusted_proxies` alone, and reads it from its end, where a
//! trusted proxy appended the address of its own peer.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address; `None` where a trusted proxy does not name it.
pub(super) fn of_client(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpAddr]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.contains(&address.to_canonical());
    let peer = peer?;
    if !is_trusted(peer) {
        return Some(peer);
    }
    let values: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().map(|v| v.to_str().unwrap_or_default()).collect();
    let hops = values.iter().flat_map(|value| value.split(',')).map(str::trim).rev();
    // An entry that is no address ends the chain of trust.
    let mut hops = hops.map_while(parse);
    hops.find(|hop| !is_trusted(*hop))
}

/// Some proxies add the port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn seen(peer: &str, forwarded: &[&str]) -> Option<IpAddr> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        of_client(Some(ip(peer)), &headers, &[ip("127.0.0.1"), ip("::1"), ip("10.0.0.2")])
    }

    #[test]
    fn only_a_trusted_proxy_names_the_client() {
        let client = Some(ip("192.0.2.7"));
        assert_eq!(seen("192.0.2.7", &["198.51.100.1"]), client, "a client names nobody");
        assert_eq!(seen("127.0.0.1", &["192.0.2.7"]), client);
        assert_eq!(seen("::ffff:127.0.0.1", &["198.51.100.1, 192.0.2.7"]), client, "entries of the client stand first");
        assert_eq!(seen("127.0.0.1", &["198.51.100.1", "192.0.2.7, 10.0.0.2"]), client, "two proxies, two headers");
        assert_eq!(seen("127.0.0.1", &["192.0.2.7:4711"]), client);
        assert_eq!(seen("127.0.0.1", &["[2001:db8::7]:4711"]), Some(ip("2001:db8::7")));
        assert_eq!(seen("127.0.0.1", &["2001:db8::7"]), Some(ip("2001:db8::7")));
        assert_eq!(seen("127.0.0.1", &[]), None);
        assert_eq!(seen("127.0.0.1", &["192.0.2.7, unknown"]), None);
        assert_eq!(seen("127.0.0.1", &["127.0.0.1"]), None);
        assert_eq!(of_client(None, &HeaderMap::new(), &[]), None);
    }
}
