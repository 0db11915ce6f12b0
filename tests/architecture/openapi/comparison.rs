//! The comparison with the OpenAPI document finds the differences that it is for.

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::document::schema::Checks;
use super::document::{Answered, DOCUMENT, Exercised};

fn check(schema: Value, value: Value) -> Result<(), String> {
    let facts = json!({"type": "object", "required": ["b"], "properties": {"b": {"type": "boolean"}}});
    let document = json!({"components": {"schemas": {"Facts": facts}}, "schema": schema});
    Checks::of(&document, vec!["/schema".into()]).check("/schema", &value)
}

#[test]
fn objects_are_closed_and_lists_of_words_are_complete() {
    let schema = json!({"type": "object", "required": ["w"], "properties": {
        "w": {"type": "string", "x-extensible-enum": ["up", "down"]},
        "at": {"type": "string", "format": "date-time", "nullable": true},
        "in": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}}});
    let good = json!({"w": "up", "at": null, "in": {"n": 1}});
    assert_eq!(check(schema.clone(), good), Ok(()));
    for (value, place) in [
        (json!({"w": "up", "more": 1}), "more"),
        (json!({"w": "left"}), "/w"),
        (json!({"w": null}), "/w"),
        (json!({"w": "up", "at": "yesterday"}), "/at"),
        (json!({"w": "up", "in": {"n": -1}}), "/in/n"),
        (json!({"w": "up", "in": {"m": 1}}), "/in"),
        (json!({}), "w"),
    ] {
        let error = check(schema.clone(), value.clone()).expect_err(&value.to_string());
        assert!(error.contains(place), "{value}: {error}");
    }
}

#[test]
fn parts_of_an_object_are_closed_together() {
    let part = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}});
    let schema = json!({"allOf": [part, {"$ref": "#/components/schemas/Facts"}]});
    assert_eq!(check(schema.clone(), json!({"a": "x", "b": true})), Ok(()));
    for value in [json!({"a": "x"}), json!({"b": true}), json!({"a": "x", "b": true, "c": 1})] {
        assert!(check(schema.clone(), value.clone()).is_err(), "{value}");
    }
}

/// An answer, compared with the document.
fn answered(
    method: Method,
    path: &str,
    status: u16,
    more: &[(&'static str, &str)],
    body: &str,
) -> Result<Exercised, String> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().expect("a value"));
    for (name, value) in more {
        headers.insert(*name, value.parse().expect("a value"));
    }
    let answered = Answered { method: &method, path, status, headers: &headers, body: body.as_bytes() };
    DOCUMENT.check(&answered).map(|exercised| exercised.expect("an operation of the document"))
}

fn error(code: &str) -> String {
    json!({"error": {"code": code, "message": "because"}}).to_string()
}

#[test]
fn an_answer_that_the_document_has_exercises_a_part_of_it() {
    let part = |id: &str, status: u16, word: &str| Ok((id.to_owned(), status, word.to_owned()));
    let alive = answered(Method::GET, "/healthz", 200, &[], "{\"status\":\"ok\"}");
    assert_eq!(alive, part("getHealth", 200, "application/json"));
    let lines = "{\"schema\":\"pagesyncd/export/1\",\"sealed_with\":\"store-key\",\"check\":\"x\"}\n";
    let kind = "application/x-ndjson";
    let exported = answered(Method::POST, "/v1/export", 200, &[("content-type", kind)], lines);
    assert_eq!(exported, part("exportLinks", 200, kind));
    let missing = answered(Method::GET, "/v1/links/facebook/1", 404, &[], &error("not_linked"));
    assert_eq!(missing, part("getLink", 404, "not_linked"));
    let away = answered(Method::GET, "/v1/pages", 503, &[("retry-after", "5")], &error("unavailable"));
    assert_eq!(away, part("listPages", 503, "unavailable"));
    let closed = answered(Method::GET, "/v1/sessions", 403, &[], &error("read_only"));
    assert_eq!(closed, part("-", 403, "read_only"));
    let nothing = answered(Method::GET, "/nothing", 404, &[], &error("not_found"));
    assert_eq!(nothing, part("-", 404, "not_found"));
    let other = answered(Method::PUT, "/healthz", 405, &[("allow", "GET")], &error("method_not_allowed"));
    assert_eq!(other, part("-", 405, "method_not_allowed"));
}

#[test]
fn an_answer_that_the_document_lacks_is_named_by_route_status_and_place() {
    let alive = "{\"status\":\"ok\"}";
    let html = [("content-type", "text/html")];
    type Headers<'a> = &'a [(&'static str, &'a str)];
    let cases: &[(&str, u16, Headers<'_>, &str, &str)] = &[
        ("/healthz", 200, &[], "{\"status\":\"ok\",\"more\":1}", "more"),
        ("/healthz", 200, &[], "{\"status\":1}", "/status"),
        ("/healthz", 200, &[], "{", "no JSON"),
        ("/healthz", 200, &html, alive, "text/html"),
        ("/healthz", 418, &[], alive, "418"),
        ("/v1/links?source=facebook", 200, &[], "{\"links\":[{}]}", "/links/0"),
        ("/v1/pages/1", 404, &[], &error("not_found"), "not_found"),
        ("/v1/pages", 503, &[], &error("unavailable"), "Retry-After"),
        ("/v1/pages", 503, &[("retry-after", "soon")], &error("unavailable"), "Retry-After"),
        ("/nothing", 200, &[], alive, "200"),
        ("/nothing", 404, &[], "{}", "error"),
        ("/v1/sessions", 405, &[], &error("method_not_allowed"), "Allow"),
    ];
    for (path, status, headers, body, place) in cases {
        let mistake = answered(Method::GET, path, *status, headers, body).expect_err(path);
        let route = path.split('?').next().expect("a path");
        for word in [route, &status.to_string(), place] {
            assert!(mistake.contains(word), "{path} {status}: {mistake}");
        }
    }
}

#[test]
fn a_request_that_the_document_lacks_is_found() {
    let check = |method: Method, path: &str, body: &str| DOCUMENT.check_request(&method, path, Some(body.as_bytes()));
    let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
    assert_eq!(check(Method::DELETE, &format!("/v1/pages/1?user={user}&revoke=true"), ""), Ok(()));
    assert_eq!(check(Method::POST, "/v1/export", ""), Ok(()));
    let line = json!({"user": user, "page_id": 1, "access_token": "x"}).to_string();
    assert_eq!(check(Method::POST, "/v1/import?replace=true", &format!("{line}\n\n{line}\n")), Ok(()));
    for (method, path, body, place) in [
        (Method::DELETE, "/v1/pages/1?keep=true", "", "keep"),
        (Method::DELETE, "/v1/pages/1?user=ada", "", "user"),
        (Method::GET, "/v1/links?source=elsewhere", "", "source"),
        (Method::GET, "/v1/pages", "{}", "a body"),
        (Method::POST, "/v1/sessions", "", "no JSON"),
        (Method::POST, "/v1/sessions", "{\"user\":1}", "/user"),
        (Method::POST, "/v1/import", &format!("{line}\n{{\"page\":1}}\n"), "line 2"),
    ] {
        let mistake = check(method, path, body).expect_err(path);
        assert!(mistake.contains(place), "{path}: {mistake}");
    }
}
