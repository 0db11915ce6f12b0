use super::super::fake::{Fake, Reply, shop};
use super::*;
use crate::core::disposition::Disposition;
use crate::core::fields::changed;
use crate::core::model::UserId;

fn user() -> UserId {
    "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10".parse().unwrap()
}

fn policy(kind: &str, body: &str) -> Value {
    json!({"id": "gid://shopify/ShopPolicy/7", "type": kind, "title": kind, "body": body, "url": "u", "updatedAt": "t"})
}

fn the_shop(policies: &[Value]) -> Reply {
    let mut data = json!({"shop": {"id": "gid://shopify/Shop/1", "name": "Café", "currencyCode": "EUR", "updatedAt": "t1",
        "email": "owner@example.com", "shopOwnerName": "Ann Owner"}});
    if !policies.is_empty() {
        data["shop"]["shopPolicies"] = json!(policies);
    }
    Reply::data(data)
}

fn pages(ids: &[u32], next: Option<&str>) -> Reply {
    let nodes: Vec<Value> =
        ids.iter().map(|id| json!({"id": format!("gid://shopify/Page/{id}"), "title": "FAQ", "body": "b"})).collect();
    let info = json!({"hasNextPage": next.is_some(), "endCursor": next});
    Reply::data(json!({"pages": {"nodes": nodes, "pageInfo": info}}))
}

async fn read(replies: Vec<Reply>) -> (Fake, Result<Reading, ShopifyError>) {
    let fake = Fake::script(replies).await;
    let link = LinkKey::of_shop(user(), shop());
    let parts = ["shop", "policies", "pages"].map(str::to_owned);
    let token = Secret::new("shpat_x");
    let reading = fake.client().read_shop(&link, &shop(), &token, &parts, Cause::Webhook).await;
    (fake, reading)
}

fn object(reading: &Reading) -> Value {
    serde_json::from_slice(&reading.document.body).unwrap()
}

#[tokio::test]
async fn a_shop_is_read_whole_and_without_its_owner() {
    let refund = policy("REFUND_POLICY", "<p>30 days</p>");
    let (fake, reading) = read(vec![the_shop(&[refund]), pages(&[1, 2], Some("c")), pages(&[3], None)]).await;
    let reading = reading.unwrap();
    assert_eq!((reading.name.as_deref(), reading.refused_fields.len()), (Some("Café"), 0));
    let object = object(&reading);
    for (key, value) in
        [("schema", SCHEMA), ("shop", shop().as_str()), ("source", "webhook"), ("api_version", "2026-10")]
    {
        assert_eq!(object[key], value);
    }
    assert_eq!(object["user"], user().to_string());
    assert!(object["fetched_at"].as_str().unwrap().ends_with('Z') && object.get("truncated").is_none());
    assert_eq!(object["data"]["shop"]["currencyCode"], "EUR");
    assert_eq!(object["data"]["policies"][0]["type"], "REFUND_POLICY");
    assert_eq!(object["data"]["pages"].as_array().unwrap().len(), 3);
    assert!(!object.to_string().to_lowercase().contains("owner"), "{object}");
    let operations: Vec<_> = fake.seen().iter().map(|seen| seen.operation().to_owned()).collect();
    assert_eq!(operations, ["ShopRead", "ShopPages", "ShopPages"]);
    assert_eq!(fake.seen()[2].json["variables"], json!({"after": "c"}));
}

#[tokio::test]
async fn a_part_whose_scope_is_missing_is_left_out_and_named() {
    let denied = || Reply::error("ACCESS_DENIED");
    let (fake, reading) = read(vec![denied(), the_shop(&[]), denied()]).await;
    let reading = reading.unwrap();
    assert_eq!(reading.refused_fields, ["policies", "pages"]);
    let data = &object(&reading)["data"];
    assert!(data["shop"].is_object() && data.get("policies").is_none() && data.get("pages").is_none());
    assert!(!fake.seen()[1].json["query"].as_str().unwrap().contains("shopPolicies"));
}

#[tokio::test]
async fn less_than_a_shop_is_an_error() {
    let no_id = Reply::data(json!({"shop": {"name": "A"}}));
    let no_list = Reply::data(json!({"pages": {"nodes": []}}));
    let no_cursor = Reply::data(json!({"pages": {"nodes": [], "pageInfo": {"hasNextPage": true, "endCursor": null}}}));
    for replies in [
        vec![Reply::data(json!({"shop": null}))],
        vec![Reply::data(json!({}))],
        vec![no_id],
        vec![the_shop(&[]), no_list],
        vec![the_shop(&[]), no_cursor],
        vec![the_shop(&[]), pages(&[1], Some("c")), Reply::Reset],
        vec![the_shop(&[]), Reply::Text(200, "<html>".to_owned())],
        vec![Reply::Truncated(json!({"data": {"shop": {"id": "x"}}}))],
    ] {
        let (_fake, reading) = read(replies).await;
        assert_eq!(reading.unwrap_err().disposition(), Disposition::Retry);
    }
}

#[tokio::test]
async fn policies_that_are_too_long_are_cut_and_said() {
    let kinds = [
        "PRIVACY_POLICY",
        "REFUND_POLICY",
        "SHIPPING_POLICY",
        "TERMS_OF_SALE",
        "TERMS_OF_SERVICE",
        "LEGAL_NOTICE",
        "SUBSCRIPTION_POLICY",
        "CONTACT_INFORMATION",
    ];
    let mut long: Vec<Value> = kinds.iter().map(|kind| policy(kind, &"<p>é</p>\n".repeat(52_000))).collect();
    long.push(policy("OTHER", "short"));
    let (_fake, reading) = read(vec![the_shop(&long), pages(&[1], None)]).await;
    let reading = reading.unwrap();
    assert!(reading.document.body.len() <= MAX_OBJECT && reading.document.body.len() > MAX_OBJECT - 16_384);
    let object = object(&reading);
    let wanted: Vec<String> = kinds.iter().map(|kind| format!("policies/{kind}")).collect();
    assert_eq!(object["truncated"], json!(wanted));
    assert_eq!(object["data"]["policies"][8]["body"], "short");
    // The digest is that of the whole text.
    long[0]["body"] = json!(format!("{}!", long[0]["body"].as_str().unwrap()));
    let (_fake, other) = read(vec![the_shop(&long), pages(&[1], None)]).await;
    assert_ne!(other.unwrap().document.digest, reading.document.digest);
}

#[tokio::test]
async fn pages_without_end_are_cut_and_said() {
    let fake = Fake::start(|seen| match seen.operation() {
        "ShopRead" => the_shop(&[]),
        _ => pages(&[1; 20], Some("c")),
    });
    let (fake, link) = (fake.await, LinkKey::of_shop(user(), shop()));
    let parts = ["pages".to_owned()];
    let reading = fake.client().read_shop(&link, &shop(), &Secret::new("t"), &parts, Cause::Poll).await.unwrap();
    assert_eq!(object(&reading)["truncated"], json!(["pages"]));
    assert_eq!(fake.seen().len(), 1 + MAX_REQUESTS);
}

#[tokio::test]
async fn fields_follow_the_digest() {
    let of = async |shop: Reply, list: Reply| {
        let (_fake, reading) = read(vec![shop, list]).await;
        let reading = reading.unwrap();
        (fields_of_object(&object(&reading)), reading.document.digest)
    };
    let (before, digest) = of(the_shop(&[policy("REFUND_POLICY", "a")]), pages(&[1], None)).await;
    let Reply::Json(_, mut touched) = the_shop(&[policy("REFUND_POLICY", "a")]) else { unreachable!() };
    touched["data"]["shop"]["updatedAt"] = json!("t2");
    let (same, same_digest) = of(Reply::Json(200, touched.clone()), pages(&[1], None)).await;
    assert_eq!((changed(Some(&before), &same).len(), same_digest), (0, digest));
    touched["data"]["shop"]["name"] = json!("Bar");
    let (after, other_digest) = of(Reply::Json(200, touched), pages(&[1, 2], None)).await;
    assert_eq!(changed(Some(&before), &after).into_iter().collect::<Vec<_>>(), ["name", "pages"]);
    assert_ne!(other_digest, digest);
}
