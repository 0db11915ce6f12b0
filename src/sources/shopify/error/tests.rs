use super::*;
use proptest::prelude::*;
use serde_json::json;

fn kind(status: u16, body: &str) -> ShopifyErrorKind {
    parse(status, body.as_bytes()).result.unwrap_err().kind
}

fn coded(code: &str) -> String {
    json!({"errors": [{"message": "m", "extensions": {"code": code}}]}).to_string()
}

#[test]
fn every_row_of_the_table_has_its_kind_and_its_end() {
    let park = Disposition::Park;
    let legacy =
        r#"{"errors":"[API] Non-expiring access tokens are no longer accepted for the Admin API. Use expiring."}"#;
    let scope = r#"{"errors":"[API] This action requires merchant approval for read_products scope."}"#;
    let html = "<html><body>520: Web server is returning an unknown error</body></html>";
    let undefined = r#"{"errors":[{"message":"Field 'nope' doesn't exist on type 'Shop'","locations":[{"line":1}],"path":["query"]}]}"#;
    for (status, body, word, disposition) in [
        (200, coded("MAX_COST_EXCEEDED"), "too_costly", Disposition::Rejected),
        (200, coded("ACCESS_DENIED"), "access_denied", park(ParkReason::ScopeMissing)),
        (200, coded("SHOP_INACTIVE"), "shop_inactive", park(ParkReason::ShopInactive)),
        (200, coded("INTERNAL_SERVER_ERROR"), "transient", Disposition::Retry),
        (200, coded("undefinedField"), "undefined_field", Disposition::Rejected),
        (200, coded("SOMETHING_NEW"), "bad_request", Disposition::Rejected),
        (200, undefined.to_owned(), "undefined_field", Disposition::Rejected),
        (200, r#"{"errors":"odd"}"#.to_owned(), "transient", Disposition::Retry),
        (400, r#"{"errors":{"query":"Required parameter missing"}}"#.to_owned(), "bad_request", Disposition::Rejected),
        (
            401,
            r#"{"errors":"[API] Invalid API key or access token"}"#.to_owned(),
            "token_refused",
            park(ParkReason::Uninstalled),
        ),
        (402, r#"{"errors":"Unavailable Shop"}"#.to_owned(), "frozen", park(ParkReason::ShopFrozen)),
        (402, html.to_owned(), "frozen", park(ParkReason::ShopFrozen)),
        (403, legacy.to_owned(), "non_expiring_token", park(ParkReason::RefreshEnded)),
        (403, scope.to_owned(), "access_denied", park(ParkReason::ScopeMissing)),
        (403, r#"{"errors":"This shop is flagged"}"#.to_owned(), "shop_inactive", park(ParkReason::ShopInactive)),
        (403, r#"{"errors":"no"}"#.to_owned(), "transient", Disposition::Retry),
        (404, r#"{"errors":"Not Found"}"#.to_owned(), "not_found", park(ParkReason::ShopGone)),
        (423, String::new(), "locked", park(ParkReason::ShopLocked)),
        (
            429,
            r#"{"errors":"Exceeded 2 calls per second"}"#.to_owned(),
            "throttled",
            Disposition::RateLimited { retry_after: None },
        ),
        (430, String::new(), "security_rejection", Disposition::RateLimited { retry_after: Some(REJECTED_FOR) }),
        (500, r#"{"errors":"Internal Server Error"}"#.to_owned(), "transient", Disposition::Retry),
        (503, html.to_owned(), "transient", Disposition::Retry),
        (520, html.to_owned(), "transient", Disposition::Retry),
    ] {
        let kind = kind(status, &body);
        assert_eq!((kind.word(), kind.disposition()), (word, disposition), "{status} {body}");
    }
}

#[test]
fn what_is_not_shopifys_parks_no_shop() {
    for status in [200, 301, 400, 401, 403, 404, 500, 520] {
        for body in
            ["", "<html>", "{\"data\":{\"shop\":{\"na", "null", "[]", "{}", "{\"errors\":[]}", "{\"data\":null}"]
        {
            assert_eq!(kind(status, body), ShopifyErrorKind::Transient, "{status} {body}");
        }
    }
}

#[test]
fn a_spent_budget_says_how_long_to_wait_and_wins_over_the_rest() {
    let cost = json!({"requestedQueryCost": 500, "actualQueryCost": null,
        "throttleStatus": {"maximumAvailable": 2000.0, "currentlyAvailable": 100, "restoreRate": 100.0}});
    let errors = json!([{"message": "x", "extensions": {"code": "ACCESS_DENIED"}},
                        {"message": "Throttled", "extensions": {"code": "THROTTLED"}}]);
    let body = json!({"errors": errors, "extensions": {"cost": cost}}).to_string();
    let parsed = parse(200, body.as_bytes());
    let wait = Duration::from_secs(4);
    assert_eq!(parsed.result.unwrap_err().kind, ShopifyErrorKind::Throttled { retry_after: Some(wait) });
    assert_eq!(parsed.cost.unwrap().wait(), wait);
}

#[test]
fn data_beside_errors_is_no_success() {
    let body =
        json!({"data": {"shop": {"id": 1}}, "errors": [{"message": "x", "extensions": {"code": "ACCESS_DENIED"}}]});
    assert_eq!(kind(200, &body.to_string()), ShopifyErrorKind::AccessDenied);
    let good = parse(200, br#"{"data":{"shop":{"id":"1"}},"errors":[]}"#);
    assert_eq!(good.result.unwrap(), json!({"shop": {"id": "1"}}));
}

#[test]
fn the_words_of_every_shape_are_kept_without_tokens() {
    for (errors, text) in [
        (json!("plain shpat_0123456789abcdef"), "plain [redacted]"),
        (json!({"base": ["one", "two"], "shop": "three"}), "base: one; base: two; shop: three"),
        (json!([{"message": "one"}, "two", 7, {"message": {"base": "three"}}, "four"]), "one; two; base: three"),
        (json!("sesame is wrong"), "[redacted] is wrong"),
    ] {
        let body = json!({"errors": errors}).to_string();
        let failure = parse(400, body.as_bytes()).result.unwrap_err();
        let error = ShopifyError::from_failure("shop_read", 400, failure, &["sesame"]);
        assert_eq!(error.text, text);
    }
}

#[test]
fn a_request_id_is_kept_when_it_is_one() {
    let with = |id: &str| {
        let error = json!({"message": "m", "extensions": {"code": "INTERNAL_SERVER_ERROR", "requestId": id}});
        let failure = parse(200, json!({"errors": [error]}).to_string().as_bytes()).result.unwrap_err();
        ShopifyError::from_failure("shop_read", 200, failure, &[])
    };
    let id = "0f1e2d3c-1111-2222-3333-444455556666-1763769600";
    let error = with(id);
    assert_eq!(error.request_id.as_deref(), Some(id));
    assert_eq!(error.to_string(), format!("shopify call shop_read failed (transient): m [http 200] [request {id}]"));
    for odd in ["", "shpat_0123456789abcdef0123", "a\nb", &"a".repeat(65)] {
        assert_eq!(with(odd).request_id, None);
    }
}

#[test]
fn an_undefined_field_is_named() {
    for body in [
        json!({"errors": [{"message": "m", "extensions": {"code": "undefinedField", "fieldName": "nope"}}]}),
        json!({"errors": [{"message": "Field 'nope' doesn't exist on type 'Shop'", "path": ["query"]}]}),
    ] {
        assert_eq!(kind(200, &body.to_string()), ShopifyErrorKind::UndefinedField { field: Some("nope".into()) });
    }
}

#[test]
fn a_grant_ends_only_when_shopify_says_so() {
    let of = |grant, status, body: &str| parse_grant(grant, status, body.as_bytes()).unwrap_err().kind;
    let no_refresh =
        r#"{"error":"invalid_request","error_description":"This request requires an active refresh_token"}"#;
    let client = r#"{"error":"invalid_client","error_description":"Could not find shop"}"#;
    for (status, body, wanted) in [
        (400, r#"{"error":"invalid_grant"}"#, ShopifyErrorKind::RefreshEnded),
        (401, no_refresh, ShopifyErrorKind::RefreshEnded),
        (401, client, ShopifyErrorKind::Misconfigured),
        (400, r#"{"error":"application_cannot_be_found"}"#, ShopifyErrorKind::Misconfigured),
        (400, r#"{"error":"invalid_request"}"#, ShopifyErrorKind::Transient),
        (401, r#"{"errors":"odd"}"#, ShopifyErrorKind::Transient),
        (520, "<html>", ShopifyErrorKind::Transient),
        (520, r#"{"error":"invalid_grant"}"#, ShopifyErrorKind::Transient),
        (200, "", ShopifyErrorKind::Transient),
        (400, "<html>", ShopifyErrorKind::Transient),
        (402, r#"{"errors":"x"}"#, ShopifyErrorKind::Frozen),
        (404, r#"{"errors":"Not Found"}"#, ShopifyErrorKind::NotFound),
        (423, "", ShopifyErrorKind::Locked),
        (429, "", ShopifyErrorKind::Throttled { retry_after: None }),
    ] {
        assert_eq!(of(Grant::Refresh, status, body), wanted, "{status} {body}");
    }
    let spent =
        r#"{"error":"invalid_request","error_description":"The authorization code was not found or was already used"}"#;
    assert_eq!(of(Grant::Code, 400, spent), ShopifyErrorKind::CodeSpent);
    assert_eq!(of(Grant::Migration, 400, r#"{"error":"invalid_subject_token"}"#), ShopifyErrorKind::TokenRefused);
    assert_eq!(parse_grant(Grant::Refresh, 200, br#"{"access_token":"x"}"#), Ok(json!({"access_token": "x"})));
}

#[test]
fn an_error_becomes_one_of_a_source() {
    let error = ShopifyError::local("shop_read", ShopifyErrorKind::Transient, "timed out");
    let of_source = SourceError::from(error);
    assert!(!of_source.answered && of_source.is_general && of_source.disposition == Disposition::Retry);
    let failure = parse(401, br#"{"errors":"x"}"#).result.unwrap_err();
    let of_source = SourceError::from(ShopifyError::from_failure("shop_read", 401, failure, &[]));
    assert!(of_source.answered && !of_source.is_general);
    assert_eq!(of_source.disposition, Disposition::Park(ParkReason::Uninstalled));
}

proptest! {
    #[test]
    fn no_answer_panics_and_no_token_is_shown(status in 100u16..600, before in ".{0,80}", token in "shp(at|rt|ss|ca)_[a-f0-9]{32}") {
        let _ = parse(status, before.as_bytes());
        let body = json!({"errors": [{"message": format!("{before} {token}")}], "error": token}).to_string();
        let errors = [parse(status, body.as_bytes()).result, parse_grant(Grant::Refresh, status, body.as_bytes())];
        for failure in errors {
            let text = ShopifyError::from_failure("refresh", status, failure.unwrap_err(), &[]).to_string();
            prop_assert!(!text.contains(&token), "{text}");
        }
    }
}
