use super::super::fake::{Fake, Reply, shop};
use super::*;
use crate::core::disposition::Disposition;
use crate::core::fields::changed;
use crate::core::model::{Cause, UserId, WallTime};

const ID: ProductId = ProductId(7);

fn variant(number: u64, count: i64) -> Value {
    json!({"id": format!("gid://shopify/ProductVariant/{number}"), "position": number, "price": "29.90",
        "availableForSale": count > 0, "inventoryQuantity": count, "updatedAt": "t"})
}

fn connection(nodes: &[Value], next: Option<&str>) -> Value {
    json!({"nodes": nodes, "pageInfo": {"hasNextPage": next.is_some(), "endCursor": next}})
}

fn fields(total: i64) -> Value {
    json!({"id": ID.gid(), "title": "Café", "handle": "cafe", "status": "ACTIVE", "updatedAt": "2026-11-22T10:00:00Z",
        "onlineStoreUrl": "https://shop.example/products/cafe", "totalInventory": total, "tracksInventory": true,
        "priceRangeV2": {"minVariantPrice": {"amount": "29.90", "currencyCode": "EUR"}}})
}

fn answer(variants: &[Value], next: Option<&str>) -> Reply {
    let mut product = fields(3);
    product["variants"] = connection(variants, next);
    product["media"] = json!({"nodes": [{"id": "gid://shopify/MediaImage/1", "alt": "a"}]});
    product["collections"] = json!({"nodes": [{"id": "gid://shopify/Collection/2", "handle": "b"}]});
    Reply::data(json!({"product": product}))
}

async fn read(replies: Vec<Reply>) -> (Fake, Result<Option<Product>, ShopifyError>) {
    let fake = Fake::script(replies).await;
    let product = fake.client().read_product(&shop(), &Secret::new("t"), ID).await;
    (fake, product)
}

fn object(product: Product) -> (Document, Value) {
    let (shop, user) = (shop(), UserId::random());
    let envelope =
        Envelope { user, shop: &shop, fetched_at: WallTime(0), cause: Cause::Webhook, api_version: "2026-10" };
    let document = product.document(envelope);
    let object = serde_json::from_slice(&document.body).unwrap();
    (document, object)
}

fn made(fields: Value, variants: Vec<Value>) -> Product {
    Product::new(fields.as_object().unwrap().clone(), variants, vec![], vec![]).unwrap()
}

#[tokio::test]
async fn a_product_has_all_its_variants_and_no_counts() {
    let pages: Vec<Vec<Value>> =
        [0..100, 100..350, 350..600].map(|range| range.map(|n| variant(n, 1)).collect()).into_iter().collect();
    let more =
        |n: usize, next| Reply::data(json!({"product": {"id": ID.gid(), "variants": connection(&pages[n], next)}}));
    let (fake, product) = read(vec![answer(&pages[0], Some("a")), more(1, Some("b")), more(2, None)]).await;
    let product = product.unwrap().unwrap();
    let (document, object) = object(product);
    let row = row_of_object(&document.body).unwrap();
    assert_eq!(row.url.as_deref(), Some("https://shop.example/products/cafe"));
    assert_eq!(row_of_object(b"{}"), None);
    let data = &object["data"];
    assert_eq!((&object["schema"], data["variants"].as_array().unwrap().len()), (&json!(SCHEMA), 600));
    assert_eq!((&data["variants"][599]["price"], &data["variants"][599]["inStock"]), (&json!("29.90"), &json!(true)));
    assert_eq!((&data["inStock"], &data["media"][0]["alt"]), (&json!(true), &json!("a")));
    assert_eq!(data["collections"][0]["handle"], "b");
    let text = object.to_string();
    assert!(!["inventoryQuantity", "totalInventory", "pageInfo"].iter().any(|word| text.contains(word)));
    let asked: Vec<Value> = fake.seen().iter().map(|seen| seen.json["variables"]["after"].clone()).collect();
    assert_eq!(asked, [Value::Null, json!("a"), json!("b")]);
}

#[tokio::test]
async fn a_product_that_is_gone_is_none_and_one_that_is_odd_is_an_error() {
    let gone = || Reply::data(json!({"product": null}));
    assert_eq!(read(vec![gone()]).await.1.unwrap(), None);
    assert_eq!(read(vec![answer(&[variant(1, 1)], Some("a")), gone()]).await.1.unwrap(), None);
    let mut other = fields(1);
    other["id"] = json!(ProductId(8).gid());
    for key in ["variants", "media", "collections"] {
        other[key] = connection(&[], None);
    }
    let mut no_media = other.clone();
    no_media["id"] = json!(ID.gid());
    no_media.as_object_mut().unwrap().remove("media");
    let more = Reply::data(json!({"product": {"variants": connection(&[variant(1, 1)], Some("b"))}}));
    let endless = [vec![answer(&[], Some("a"))], vec![more; MAX_REQUESTS]].concat();
    for replies in [
        vec![Reply::data(json!({}))],
        vec![Reply::data(json!({"product": other}))],
        vec![Reply::data(json!({"product": no_media}))],
        vec![answer(&[], Some("a")), Reply::Reset],
        endless,
    ] {
        assert_eq!(read(replies).await.1.unwrap_err().disposition(), Disposition::Retry);
    }
}

#[test]
fn an_order_changes_nothing_and_an_empty_shelf_does() {
    let later = |total: i64| {
        let mut fields = fields(total);
        fields["updatedAt"] = json!("2026-11-23T10:00:00Z");
        fields
    };
    let (before, old) = object(made(fields(5), vec![variant(1, 3), variant(2, 2)]));
    let mut sold = variant(2, 1);
    sold["updatedAt"] = json!("later");
    let (after, _) = object(made(later(3), vec![sold, variant(1, 2)]));
    assert_eq!(after.digest, before.digest, "neither counts, nor times, nor the order of lines");
    let (empty, new) = object(made(later(2), vec![variant(1, 2), variant(2, 0)]));
    assert_ne!(empty.digest, before.digest);
    let names = changed(Some(&fields_of_object(&old)), &fields_of_object(&new));
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["variants"]);
    let mut priced = variant(1, 3);
    priced["price"] = json!("29.9");
    assert_ne!(object(made(fields(5), vec![priced, variant(2, 2)])).0.digest, before.digest, "money is a text");
}

#[test]
fn stock_that_is_not_counted_is_there_while_it_may_be_sold() {
    let mut untracked = fields(0);
    untracked["tracksInventory"] = json!(false);
    let sold = json!({"id": "gid://shopify/ProductVariant/1", "availableForSale": true, "inventoryQuantity": 0});
    let (_, object) = object(made(untracked, vec![sold, json!({"id": "gid://shopify/ProductVariant/2"})]));
    let data = &object["data"];
    let stands = [&data["inStock"], &data["variants"][0]["inStock"], &data["variants"][1]["inStock"]];
    assert_eq!(stands, [&json!(true), &json!(true), &json!(false)]);
}

#[test]
fn a_product_without_end_is_cut_and_said() {
    let mut long = fields(1);
    long["descriptionHtml"] = json!("<p>é</p>".repeat(1_000_000));
    long["description"] = json!("short");
    let many = (0..MEDIA + 5).map(|n| json!({"id": format!("gid://shopify/MediaImage/{n}")})).collect();
    let product = Product::new(long.as_object().unwrap().clone(), vec![], many, vec![]).unwrap();
    let (document, object) = object(product);
    assert!(document.body.len() <= MAX_OBJECT && document.body.len() > MAX_OBJECT - 16_384);
    assert_eq!(object["truncated"], json!(["media", "descriptionHtml"]));
    assert_eq!(object["data"]["description"], "short");
    assert_eq!(object["data"]["media"].as_array().unwrap().len(), MEDIA);
    assert!(Product::new(json!({"id": 7}).as_object().unwrap().clone(), vec![], vec![], vec![]).is_none());
}

#[tokio::test]
async fn what_changed_is_walked_to_its_end() {
    let node = |id: u64| json!({"id": ProductId(id).gid(), "title": "A", "updatedAt": format!("t{id}")});
    let page = |ids: std::ops::Range<u64>, next: Option<&str>| {
        Reply::data(json!({"products": connection(&ids.map(node).collect::<Vec<_>>(), next)}))
    };
    let fake =
        Fake::script([page(1..3, Some("c")), page(3..4, None), page(4..5, Some("d")), Reply::data(json!({}))]).await;
    let (client, shop, token) = (fake.client(), shop(), Secret::new("t"));
    let step = ChangedSince::new(Some("2026-11-22T10:00:00Z".to_owned()));
    let (entries, rest) = client.changed_products(&shop, &token, &step).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.id.0).collect::<Vec<_>>(), [1, 2]);
    let (entries, rest) = client.changed_products(&shop, &token, &rest.unwrap()).await.unwrap();
    assert_eq!((entries.len(), rest), (1, None));
    // Shopify's paging ends before the shop does: the walk goes on from the last moment.
    let far = ChangedSince { since: None, after: Some("c".to_owned()), paged: MAX_PAGED - 1 };
    let (_, rest) = client.changed_products(&shop, &token, &far).await.unwrap();
    assert_eq!(rest, Some(ChangedSince::new(Some("t4".to_owned()))));
    assert!(client.changed_products(&shop, &token, &far).await.is_err());
    let asked = fake.seen();
    let query = "updated_at:>='2026-11-22T10:00:00Z'";
    assert_eq!(asked[0].json["variables"], json!({"query": query, "after": null}));
    assert_eq!(asked[1].json["variables"], json!({"query": query, "after": "c"}));
    assert_eq!(asked[2].json["variables"]["query"], Value::Null);
}
