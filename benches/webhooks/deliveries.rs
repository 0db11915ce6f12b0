//! Deliveries as Meta sends them: one changed page each, signed, prepared as the bytes of an HTTP request.

use std::net::SocketAddr;

use serde_json::json;

/// The route of the daemon; the yardsticks answer every route.
pub const PATH: &str = "/facebook/webhook";

/// A delivery for each page, in this order, with the signature that `sign` gives its body.
pub fn signed(sign: impl Fn(&[u8]) -> String, address: SocketAddr, pages: &[String]) -> Vec<Vec<u8>> {
    let one = |page: &String| {
        let body = body(page);
        request(address, &body, &sign(body.as_bytes()))
    };
    pages.iter().map(one).collect()
}

/// The same with signatures of the right form that no secret made.
pub fn forged(address: SocketAddr, pages: &[String]) -> Vec<Vec<u8>> {
    pages.iter().map(|page| request(address, &body(page), &format!("sha256={}", "5a".repeat(32)))).collect()
}

fn body(page: &str) -> String {
    json!({"object": "page", "entry": [{"id": page, "time": 1_763_769_600, "changed_fields": ["description"]}]})
        .to_string()
}

fn request(address: SocketAddr, body: &str, signature: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
