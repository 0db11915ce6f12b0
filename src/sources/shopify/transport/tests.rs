use super::super::fake::{Fake, Reply, SECRET, shop};
use super::super::queries::{GRANTED_SCOPES, Operation};
use super::*;
use crate::core::disposition::Disposition;

/// An operation that asks for many points.
const LARGE: Operation =
    Operation { name: "Large", call: "large", text: "query Large { shop { id } }", first_guess: 450 };

const TOKEN_TEXT: &str = "shpat_0123456789";

async fn one(reply: Reply) -> (Fake, Result<Value, ShopifyError>) {
    let fake = Fake::script([reply]).await;
    let answer = fake.client().call(&shop(), &Secret::new(TOKEN_TEXT), &LARGE, json!({"id": "gid"})).await;
    (fake, answer)
}

fn spent(available: f64) -> Value {
    json!({"requestedQueryCost": 300, "actualQueryCost": 50,
           "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": available, "restoreRate": 50.0}})
}

#[tokio::test]
async fn a_call_is_one_post_with_its_name_and_the_token_in_its_header() {
    let (fake, answer) = one(Reply::data(json!({"product": null}))).await;
    assert_eq!(answer.unwrap(), json!({"product": null}));
    let seen = &fake.seen()[0];
    assert_eq!(seen.path, "/some-shop.myshopify.com/admin/api/2026-10/graphql.json");
    assert_eq!((seen.token.as_deref(), seen.operation()), (Some(TOKEN_TEXT), "Large"));
    assert_eq!(seen.json["query"], LARGE.text);
    assert_eq!(seen.json["variables"], json!({"id": "gid"}));
    assert_eq!(seen.headers["content-type"], "application/json");
    let counted = "pagesyncd_source_requests_total{source=\"shopify\",call=\"large\",outcome=\"ok\"} 1";
    assert!(fake.metrics.encode().contains(counted));
}

#[tokio::test]
async fn faults_of_the_wire_are_retried_and_show_no_token() {
    let large = Reply::data(json!({"x": "y".repeat(MAX_ANSWER)}));
    let moved = Reply::Headers(302, vec![("location", "http://127.0.0.1:1/".into())], json!({}));
    let html = Reply::Text(200, format!("<html>{TOKEN_TEXT} {SECRET}"));
    for reply in [Reply::Reset, Reply::Truncated(json!({"data": {"a": "b"}})), large, moved, html] {
        let (fake, answer) = one(reply).await;
        let error = answer.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Retry, "{error}");
        assert!(!error.to_string().contains("0123456789"), "{error}");
        assert_eq!(fake.seen().len(), 1, "no retry, and no redirect followed");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_says_the_limit() {
    let (_fake, answer) = one(Reply::data(json!({"x": "y".repeat(MAX_ANSWER)}))).await;
    assert_eq!(answer.unwrap_err().text, "the answer is larger than 16384 KiB");
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let fake = Fake::script([Reply::Stall]).await;
    let settings = ShopifySettings { request_timeout: Duration::from_millis(100), ..fake.settings() };
    let inner = Inner::new(settings, Arc::default()).unwrap();
    let error = inner.send(&shop(), &Secret::new("t"), &GRANTED_SCOPES, json!({})).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ShopifyErrorKind::Transient, None));
    assert!(error.text.starts_with("timed out"), "{}", error.text);
}

#[tokio::test]
async fn headers_add_what_the_body_does_not_say() {
    let id = "0f1e2d3c-1111-2222-3333-444455556666";
    for (seconds, wait) in [("2.0", Some(2)), ("3", Some(3)), ("0", None), ("-1", None), ("soon", None), ("NaN", None)]
    {
        let headers = vec![("retry-after", seconds.to_owned()), ("x-request-id", id.to_owned())];
        let (_fake, answer) = one(Reply::Headers(429, headers, json!({"errors": "slow down"}))).await;
        let error = answer.unwrap_err();
        assert_eq!(error.kind, ShopifyErrorKind::Throttled { retry_after: wait.map(Duration::from_secs) }, "{seconds}");
        assert_eq!(error.request_id.as_deref(), Some(id));
    }
}

#[tokio::test]
async fn another_version_and_a_deprecation_are_noted_once() {
    let headers = vec![
        ("x-shopify-api-version", "2027-01".to_owned()),
        ("x-shopify-api-deprecated-reason", "https://shopify.dev/x".to_owned()),
    ];
    let reply = Reply::Headers(200, headers, json!({"data": {}}));
    let same = Reply::Headers(200, vec![("x-shopify-api-version", "2026-10".to_owned())], json!({"data": {}}));
    let fake = Fake::script([reply.clone(), reply, same]).await;
    let client = fake.client();
    for _ in 0..3 {
        client.call(&shop(), &Secret::new("t"), &GRANTED_SCOPES, json!({})).await.unwrap();
    }
    let noted = ["2027-01", "https://shopify.dev/x"].map(str::to_owned);
    assert_eq!(client.inner.noted(), HashSet::from(noted));
}

#[tokio::test]
async fn a_token_that_no_token_is_like_is_not_sent() {
    let fake = Fake::script([]).await;
    for token in ["", "a b", "a\r\nx: y", "é"] {
        let error = fake.client().call(&shop(), &Secret::new(token), &GRANTED_SCOPES, json!({})).await.unwrap_err();
        assert_eq!(error.kind, ShopifyErrorKind::TokenRefused);
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_call_waits_for_its_shops_budget_and_for_no_others() {
    let answer = |available| Reply::Json(200, json!({"data": {}, "extensions": {"cost": spent(available)}}));
    let fake = Fake::script([answer(295.0), answer(900.0), answer(900.0)]).await;
    let (client, token) = (fake.client(), Secret::new("t"));
    client.call(&shop(), &token, &LARGE, json!({})).await.unwrap();
    let start = std::time::Instant::now();
    let other = "other.myshopify.com".parse().unwrap();
    client.call(&other, &token, &LARGE, json!({})).await.unwrap();
    client.call(&shop(), &token, &LARGE, json!({})).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50), "five points come in a tenth of a second");
    assert_eq!(client.inner.budgets_kept(), 2);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_the_callers() {
    let cost = json!({"requestedQueryCost": 990, "actualQueryCost": 990,
        "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": 0, "restoreRate": 10.0}});
    let fake = Fake::script([Reply::Json(200, json!({"data": {}, "extensions": {"cost": cost}}))]).await;
    let (client, token) = (fake.client(), Secret::new("t"));
    client.call(&shop(), &token, &LARGE, json!({})).await.unwrap();
    let error = client.call(&shop(), &token, &LARGE, json!({})).await.unwrap_err();
    let ShopifyErrorKind::Throttled { retry_after: Some(wait) } = error.kind else { panic!("{error}") };
    assert!((90..=99).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_reserves_nothing_further() {
    let fake = Fake::start(|_| Reply::Stall).await;
    let (client, token) = (fake.client(), Secret::new("t"));
    for _ in 0..2 {
        let shop = shop();
        let call = client.call(&shop, &token, &GRANTED_SCOPES, json!({}));
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    }
    let later = MonoTime::now().plus(Duration::from_secs(60));
    client.inner.budgets().forget_full(later);
    assert_eq!(client.inner.budgets_kept(), 0);
}
