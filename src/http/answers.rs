//! Outcomes as responses: JSON for programs, plain pages for people, errors in one form. Nothing here can print a
//! secret, because nothing here is given one.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use super::body::NoBody;
use super::server::Answer;

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
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

/// Bare text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

/// Text of another type.
pub fn typed(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    answer(StatusCode::OK, content_type, text)
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

/// There was no body to answer.
pub fn no_body(why: NoBody) -> Answer {
    match why {
        NoBody::TooLarge => {
            error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than http.max_body_bytes")
        }
        NoBody::TooSlow => {
            error(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive within http.body_timeout")
        }
        NoBody::Broken => error(StatusCode::BAD_REQUEST, "broken_body", "the body broke off or is framed wrongly"),
        NoBody::Crowded => unavailable("there is no memory for a body of this size at the moment; send it again", 1),
    }
}

/// Sends the browser elsewhere.
pub fn redirect(to: &str) -> Answer {
    match HeaderValue::from_str(to) {
        Ok(location) => {
            let mut answer = text(StatusCode::FOUND, "");
            answer.headers_mut().insert(header::LOCATION, location);
            answer
        }
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the address to go to cannot be written down"),
    }
}

/// Does the client want a page for people?
pub fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// Text made safe inside HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2430;--soft:#667085;--line:#e3e7ee;--card:#fff;--back:#f4f6fa;--good:#12805c;--bad:#b42318;--go:#1b5fd0}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf3;--soft:#98a2b3;--line:#2b3342;--card:#171c26;--back:#0f131b;--good:#4cc38a;--bad:#ff8b7e;--go:#7cb0ff}}\
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,sans-serif}\
main{width:min(42rem,100% - 2rem);margin:8vh auto;padding:2rem 2.2rem;background:var(--card);border:1px solid var(--line);border-radius:14px}\
h1{font-size:1.45rem;margin:0 0 .6rem}p{margin:.5rem 0}p::first-letter{text-transform:uppercase}ul{list-style:none;padding:0;margin:1.2rem 0}\
li{display:flex;gap:1.2rem;justify-content:space-between;align-items:baseline;padding:.6rem 0;border-top:1px solid var(--line)}\
li span{overflow-wrap:anywhere}li span:first-child{flex:0 1 auto;min-width:min(12rem,45%);font-weight:550}li span:last-child{text-align:right}\
.soft{color:var(--soft);font-size:.92rem}.good{color:var(--good)}.bad{color:var(--bad)}\
a.button{display:inline-block;margin-top:1rem;padding:.55rem 1.1rem;border-radius:9px;background:var(--go);color:#fff;text-decoration:none}\
@media(prefers-color-scheme:dark){a.button{color:#0f131b}}";

/// A page for people; `body` is HTML already.
pub fn page(status: StatusCode, title: &str, body: &str) -> Answer {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let mut answer = answer(status, "text/html; charset=utf-8", html);
    let headers = answer.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_show_text_and_run_nothing() {
        assert_eq!(escape("<script>'a'&\"b\""), "&lt;script&gt;&#39;a&#39;&amp;&quot;b&quot;");
    }

    #[test]
    fn a_method_that_is_not_there_is_told_which_are() {
        let answer = method_not_allowed("GET, POST");
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()[header::ALLOW], "GET, POST");
    }
}
