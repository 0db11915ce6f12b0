//! Outcomes as responses: JSON for programs, errors in one form; HTML is rendered in [`super::pages`].
//! Nothing here can print a secret, because nothing here is given one.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use serde_json::{Value, json};

use super::body::NoBody;
use super::connections::Conn;
use super::payload::{Payload, Pieces, gather};

/// What a route answers.
pub type Answer = Response<Payload>;

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    with_payload(status, content_type, Payload::whole(body))
}

fn with_payload(status: StatusCode, content_type: &'static str, payload: Payload) -> Answer {
    let mut answer = Response::new(payload);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A JSON document.
pub fn json(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", value.to_string())
}

/// A JSON document that is always the same.
pub fn fixed_json(status: StatusCode, document: &'static str) -> Answer {
    answer(status, "application/json", document)
}

/// Bare text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

/// Text of another type.
pub fn typed(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    answer(StatusCode::OK, content_type, text)
}

/// A document that is made while it is sent, for a client of this version.
pub async fn in_pieces(version: Version, content_type: &'static str, pieces: Pieces, conn: &Conn) -> Answer {
    if version >= Version::HTTP_11 {
        return with_payload(StatusCode::OK, content_type, Payload::InPieces(pieces, conn.clone()));
    }
    match gather(pieces).await {
        Ok(whole) => typed(content_type, whole),
        Err(cut) => unavailable(&cut.to_string(), 5),
    }
}

/// A document without an end, for clients of every version.
pub fn endless(content_type: &'static str, pieces: Pieces, conn: &Conn) -> Answer {
    with_payload(StatusCode::OK, content_type, Payload::Endless(pieces, conn.clone()))
}

/// A text that is part of the program, under a policy that lets nothing in from elsewhere.
pub fn part_of_program(content_type: &'static str, policy: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = typed(content_type, text);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// `{"error":{"code","message"}}`.
pub fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    json(status, &json!({"error": {"code": code, "message": message}}))
}

/// The route is not there.
pub fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address")
}

/// The route is there, for other methods.
pub fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address takes other methods");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}

/// Something is away for a while; the caller may come back in so many seconds.
pub fn unavailable(message: &str, retry_after_secs: u32) -> Answer {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_secs));
    answer
}

/// There was no body to answer. What is left of it is not read, so the connection closes, and the answer says that
/// ([RFC 9112, 9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)): a proxy does not send the next request on it.
pub fn no_body(why: NoBody) -> Answer {
    let mut answer = match why {
        NoBody::TooLarge => {
            error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than http.max_body_bytes")
        }
        NoBody::TooSlow => {
            error(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive within http.body_timeout")
        }
        NoBody::Broken => error(StatusCode::BAD_REQUEST, "broken_body", "the body broke off or is framed wrongly"),
        NoBody::Crowded => unavailable("there is no memory for a body of this size at the moment; send it again", 1),
    };
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// A document in HTML.
pub fn html(status: StatusCode, document: String) -> Answer {
    answer(status, "text/html; charset=utf-8", document)
}

/// Sends the browser elsewhere.
pub fn redirect(status: StatusCode, to: &str) -> Answer {
    match HeaderValue::from_str(to) {
        Ok(location) => {
            let mut answer = text(status, "");
            answer.headers_mut().insert(header::LOCATION, location);
            answer
        }
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the address to go to cannot be written down"),
    }
}

/// Does the client want a page, and no JSON?
pub fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_was_not_read_ends_its_connection() {
        for why in [NoBody::TooLarge, NoBody::TooSlow, NoBody::Broken, NoBody::Crowded] {
            assert_eq!(no_body(why).headers()[header::CONNECTION], "close", "{why:?}");
        }
    }

    #[test]
    fn a_method_that_is_not_there_is_told_which_are() {
        let answer = method_not_allowed("GET, POST");
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()[header::ALLOW], "GET, POST");
    }
}
