//! The daemon's own client at the local Shopify.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::core::disposition::Disposition;
use crate::core::model::{Cause, Secret, ShopName, UserId, WallTime};
use crate::http_client::Trust;
use crate::metrics::Metrics;
use crate::sandbox::shopify::catalogue::Members;
use crate::sandbox::shopify::{ShopFault, ShopTopic, Shopify};
use crate::sandbox::wire::{Face, Gate, Handler, collect, full};
use crate::sources::shopify::bulk::{Bulk, Start};
use crate::sources::shopify::bulk_lines::Found;
use crate::sources::shopify::ids::ProductId;
use crate::sources::shopify::object::Envelope;
use crate::sources::shopify::products::{ChangedSince, Product};
use crate::sources::shopify::{ShopifyClient, ShopifySettings};

/// A shop with the app on it, and the daemon's client.
struct Shops {
    bench: Bench,
    client: ShopifyClient,
    shop: ShopName,
    token: Secret,
}

impl Shops {
    async fn new() -> Shops {
        let bench = Bench::new(1).await;
        let shop: ShopName = "sandbox-1.myshopify.com".parse().unwrap();
        let token = Secret::new("shpat_test");
        let shopify = &bench.server.shopify;
        shopify.change(|state| {
            let app = &mut state.shops.get_mut(&shop).unwrap().app;
            app.installed = true;
            app.scopes.insert("read_products".to_owned());
            app.access.insert(token.expose().to_owned(), WallTime(u64::MAX));
            // Nobody waits here.
            (state.restore, state.bulk_time) = (1_000_000.0, Duration::ZERO);
        });
        let settings = ShopifySettings {
            client_id: shopify.look(|state| state.client_id.clone()),
            client_secret: Secret::new(shopify.look(|state| state.client_secret.clone())),
            api_version: "2026-10".to_owned(),
            api_url: Some(shopify.url()),
            scopes: vec!["read_products".to_owned()],
            shop_fields: Vec::new(),
            subscribe_at: None,
            request_timeout: Duration::from_secs(20),
            trust: Trust::default(),
        };
        let client = ShopifyClient::new(settings, Arc::new(Metrics::new())).unwrap();
        Shops { bench, client, shop, token }
    }

    fn shopify(&self) -> &Shopify {
        &self.bench.server.shopify
    }

    async fn read(&self, id: u64) -> Option<Product> {
        self.client.read_product(&self.shop, &self.token, ProductId(id)).await.unwrap()
    }

    /// The products of a walk, in the order in which they came.
    async fn changed(&self, since: Option<String>) -> Vec<u64> {
        let (mut all, mut step) = (Vec::new(), Some(ChangedSince::new(since)));
        while let Some(now) = step {
            let (entries, rest) = self.client.changed_products(&self.shop, &self.token, &now).await.unwrap();
            all.extend(entries.iter().map(|entry| entry.id.0));
            step = rest;
        }
        all
    }

    async fn start(&self) -> String {
        match self.client.start_bulk(&self.shop, &self.token).await.unwrap() {
            Start::Started(id) => id,
            Start::Busy => panic!("busy"),
        }
    }

    async fn file(&self, id: &str) -> (Option<String>, Option<u64>) {
        match self.client.bulk_status(&self.shop, &self.token, id).await.unwrap() {
            Bulk::Done { url, objects } => (url, objects),
            other => panic!("{other:?}"),
        }
    }

    /// What is in the file of a new bulk operation, and how it ended.
    async fn bulk(&self) -> (Vec<Found>, Result<(), Disposition>) {
        let (url, objects) = self.file(&self.start().await).await;
        let mut file = self.client.open_bulk(&url.unwrap(), objects).await.unwrap();
        let mut found = Vec::new();
        loop {
            match file.next().await {
                Ok(Some(one)) => found.push(one),
                Ok(None) => return (found, Ok(())),
                Err(error) => return (found, Err(error.disposition())),
            }
        }
    }
}

fn envelope(shop: &ShopName) -> Envelope<'_> {
    let (user, fetched_at, cause) = (UserId::random(), WallTime(0), Cause::Poll);
    Envelope { user, shop, fetched_at, cause, api_version: "2026-10" }
}

fn data(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["data"].take()
}

fn whole(found: &[Found]) -> Vec<u64> {
    found.iter().filter_map(|one| if let Found::Product(product) = one { Some(product.id.0) } else { None }).collect()
}

#[tokio::test]
async fn a_product_is_read_with_all_its_variants_and_its_collections() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    shopify.set_catalogue(&shops.shop, 3, 700);
    let id = shopify.products(&shops.shop)[0];
    let data = data(&shops.read(id).await.unwrap().document(envelope(&shops.shop)).body);
    let variants = data["variants"].as_array().unwrap();
    assert_eq!((variants.len(), &variants[699]["position"]), (700, &json!(700)));
    assert_eq!((&data["title"], &data["inStock"]), (&json!("Blue Lamp"), &json!(true)));
    assert_eq!(data["collections"].as_array().unwrap().len(), 2);
    assert_eq!(data["media"][0]["image"]["width"], 1200);
    assert!(data.get("createdAt").is_none(), "it was not asked for");
    assert_eq!(shopify.calls(&shops.shop, "ProductVariants"), 3);
    assert!(shops.read(1).await.is_none());
}

#[tokio::test]
async fn changed_products_come_in_order_and_in_pages() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    shopify.set_catalogue(&shops.shop, 600, 1);
    let ids = shopify.products(&shops.shop);
    assert_eq!(shops.changed(None).await, ids);
    assert_eq!(shopify.calls(&shops.shop, "ProductsChanged"), 3);
    assert!(shopify.edit_product(&shops.shop, ids[4], |product| product.title = "Other".into()));
    assert!(shopify.sell(&shops.shop, ids[7], 1) && shopify.sell(&shops.shop, ids[7], 1));
    let since = shopify.product(&shops.shop, ids[4]).unwrap().updated_at.rfc3339();
    let changed = shops.changed(Some(since)).await;
    assert!(changed.contains(&ids[4]) && changed.contains(&ids[7]) && !changed.contains(&ids[5]), "{changed:?}");
    let created = shopify.create_product(&shops.shop, "Brand new").unwrap();
    assert!(shopify.delete_product(&shops.shop, ids[0]));
    let all = shops.changed(None).await;
    assert_eq!((all.len(), all.contains(&created), all.contains(&ids[0])), (600, true, false));
}

#[tokio::test]
async fn collections_have_their_products() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    shopify.set_catalogue(&shops.shop, 1200, 1);
    let ids = shopify.products(&shops.shop);
    let mine = shopify.create_collection(&shops.shop, "Mine", &ids[..3]).unwrap();
    assert!(
        shopify.edit_collection(&shops.shop, mine, |one| one.members =
            Members::Listed(ids[1..3].iter().copied().collect()))
    );
    let collections = shops.client.read_collections(&shops.shop, &shops.token).await.unwrap();
    let data = data(&collections.document(envelope(&shops.shop)).body);
    let lists = data.as_array().unwrap();
    let members: Vec<usize> = lists.iter().map(|one| one["products"].as_array().unwrap().len()).collect();
    assert_eq!(members, [3, 600, 600, 2]);
    assert_eq!((&lists[3]["title"], &lists[1]["productsCount"]["count"]), (&json!("Mine"), &json!(600)));
    assert_eq!(lists[3]["products"], json!(ids[1..3]));
}

#[tokio::test]
async fn a_bulk_file_has_every_product_as_it_is_read_by_itself() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    shopify.set_catalogue(&shops.shop, 300, 0);
    let ids = shopify.products(&shops.shop);
    shopify.create_product(&shops.shop, "Brand new").unwrap();
    shopify.set_stock(&shops.shop, ids[8], 0);
    let (found, end) = shops.bulk().await;
    assert_eq!((end, whole(&found)), (Ok(()), shopify.products(&shops.shop)));
    for one in found.into_iter().step_by(37) {
        let Found::Product(product) = one else { panic!("{one:?}") };
        let alone = shops.read(product.id.0).await.unwrap();
        let digest = |product: Product| product.document(envelope(&shops.shop)).digest;
        assert_eq!(digest(*product), digest(alone));
    }
    shopify.set_catalogue(&shops.shop, 0, 1);
    assert_eq!(shops.file(&shops.start().await).await, (None, Some(0)));
}

#[tokio::test]
async fn a_bulk_operation_runs_alone_for_a_moment_and_lists_what_was_there_then() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    shopify.change(|state| state.bulk_time = Duration::from_secs(3600));
    let id = shops.start().await;
    assert_eq!(shops.client.start_bulk(&shops.shop, &shops.token).await, Ok(Start::Busy));
    let running = shops.client.bulk_status(&shops.shop, &shops.token, &id).await;
    assert!(matches!(running, Ok(Bulk::Running { .. })), "{running:?}");
    let before = shopify.products(&shops.shop);
    shopify.delete_product(&shops.shop, before[0]);
    shopify.change(|state| state.bulk_time = Duration::ZERO);
    let (url, objects) = shops.file(&id).await;
    let url = url.unwrap();
    assert!(url.starts_with(&shopify.files_url()) && shopify.files_url() != shopify.url().replace("/{shop}", ""));
    let text = shops.bench.http.get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().count() as u64, objects.unwrap());
    assert!(text.contains(&ProductId(before[0]).gid()), "it is from before the deletion");
    let with_token = shops.bench.http.get(&url).header("x-shopify-access-token", "shpat_test").send().await.unwrap();
    assert_eq!((with_token.status().as_u16(), shopify.look(|state| state.tokens_at_files)), (400, 1));
    let guessed = shops.bench.http.get(url.replace("Signature=", "Signature=x")).send().await.unwrap();
    assert_eq!(guessed.status(), 403);
    let unknown = shops.client.bulk_status(&shops.shop, &shops.token, "gid://shopify/BulkOperation/1").await;
    assert_eq!(unknown, Ok(Bulk::Unknown));
}

#[tokio::test]
async fn bulk_faults_show_as_they_are_named() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    shopify.set_catalogue(&shops.shop, 200, 2);
    let turn = |fault, on| shopify.set_shop_fault(&shops.shop, fault, on);
    turn(ShopFault::BulkBusy, true);
    assert_eq!(shops.client.start_bulk(&shops.shop, &shops.token).await, Ok(Start::Busy));
    turn(ShopFault::BulkBusy, false);
    turn(ShopFault::BulkFailed, true);
    let failed = shops.client.bulk_status(&shops.shop, &shops.token, &shops.start().await).await;
    assert!(matches!(failed, Ok(Bulk::Failed { is_denied: false, .. })), "{failed:?}");
    turn(ShopFault::BulkFailed, false);
    for fault in [ShopFault::BulkCutOff, ShopFault::BulkShort] {
        turn(fault, true);
        let (found, end) = shops.bulk().await;
        assert_eq!(end, Err(Disposition::Retry), "{fault}");
        assert!(whole(&found).len() < 101, "{fault}: {}", found.len());
        turn(fault, false);
    }
    turn(ShopFault::BulkBrokenLine, true);
    let (found, end) = shops.bulk().await;
    let broken = found.iter().filter(|one| matches!(one, Found::Broken { .. })).count();
    assert_eq!((end, whole(&found).len() >= 198, broken >= 1), (Ok(()), true, true));
    turn(ShopFault::BulkBrokenLine, false);
    turn(ShopFault::BulkForeignHost, true);
    let (url, objects) = shops.file(&shops.start().await).await;
    assert!(shops.client.open_bulk(&url.unwrap(), objects).await.is_err());
    turn(ShopFault::BulkForeignHost, false);
    assert_eq!(whole(&shops.bulk().await.0).len(), 200);
}

#[tokio::test]
async fn faults_of_the_admin_api_strike_one_shop_or_all() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    let id = shopify.products(&shops.shop)[0];
    let other: ShopName = "sandbox-2.myshopify.com".parse().unwrap();
    let read = async || shops.client.read_product(&shops.shop, &shops.token, ProductId(id)).await;
    for fault in [ShopFault::Html, ShopFault::Empty, ShopFault::Truncated, ShopFault::Unavailable, ShopFault::Reset] {
        shopify.set_shop_fault(&other, fault, true);
        assert!(read().await.is_ok(), "{fault} of another shop");
        shopify.set_shop_fault(&shops.shop, fault, true);
        assert_eq!(read().await.unwrap_err().disposition(), Disposition::Retry, "{fault}");
        shopify.clear_faults();
        shopify.set_fault(fault, true);
        assert!(read().await.is_err(), "{fault} of all shops");
        shopify.set_fault(fault, false);
    }
    shopify.change(|state| state.shops.get_mut(&shops.shop).unwrap().app.scopes.clear());
    assert!(read().await.is_err(), "the scope is missing");
    assert!(shops.client.start_bulk(&shops.shop, &shops.token).await.is_err());
}

#[tokio::test]
async fn a_kept_shopify_goes_on_with_its_shops() {
    let shops = Shops::new().await;
    let shopify = shops.shopify();
    let id = shopify.products(&shops.shop)[2];
    shopify.edit_product(&shops.shop, id, |product| product.title = "Kept".into());
    let created = shopify.create_product(&shops.shop, "Created").unwrap();
    shopify.set_fault(ShopFault::Throttled, true);
    shops.bench.server.keep().unwrap();
    let before = shopify.look(|state| (state.client_secret.clone(), state.shops[&shops.shop].clone()));
    shops.bench.server.shutdown().await;
    let again = WorldServer::start(Options::new(shops.bench._dir.path())).await.unwrap();
    let kept = again.shopify.look(|state| (state.client_secret.clone(), state.shops[&shops.shop].clone()));
    assert_eq!((kept.0, kept.1.app.access, kept.1.catalogue), (before.0, before.1.app.access, before.1.catalogue));
    assert_eq!(again.shopify.product(&shops.shop, id).unwrap().title, "Kept");
    assert!(again.shopify.product(&shops.shop, created).is_some());
    assert!(again.shopify.look(|state| state.faults.is_empty() && state.shops[&shops.shop].queries.is_empty()));
    again.shutdown().await;
}

/// Takes the deliveries of the app's configuration.
async fn receiver(shopify: &Shopify) -> (Face, mpsc::UnboundedReceiver<(HeaderMap, Vec<u8>)>) {
    let (taken, deliveries) = mpsc::unbounded_channel();
    let handler: Handler = Arc::new(move |request| {
        let taken = taken.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = collect(body, 1 << 20).await.unwrap().to_vec();
            taken.send((head.headers, body)).unwrap();
            Ok(http::Response::new(full("")))
        })
    });
    let gate: Gate = Arc::new(|| true);
    let (_, changes) = tokio::sync::watch::channel(0);
    let face = Face::start("127.0.0.1:0".parse().unwrap(), handler, gate, changes).await.unwrap();
    shopify.change(|state| state.webhook_url = Some(format!("http://{}/hook", face.addr)));
    (face, deliveries)
}

#[tokio::test]
async fn every_change_of_a_product_or_a_collection_is_delivered_and_signed() {
    let shops = Shops::new().await;
    let (shopify, shop) = (shops.shopify(), &shops.shop);
    let (_face, mut deliveries) = receiver(shopify).await;
    let mut next = async || {
        let (headers, body) = deliveries.recv().await.unwrap();
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-shopify-hmac-sha256"), shopify.sign(&body));
        assert_eq!(header("x-shopify-shop-domain"), shop.as_str());
        (header("x-shopify-topic"), serde_json::from_slice::<Value>(&body).unwrap())
    };
    let id = shopify.create_product(shop, "Brand new").unwrap();
    let (topic, body) = next().await;
    assert_eq!((topic.as_str(), &body["id"], &body["title"]), ("products/create", &json!(id), &json!("Brand new")));
    assert_eq!(body["admin_graphql_api_id"], ProductId(id).gid());
    shopify.edit_product(shop, id, |product| product.variants[0].price = 1999);
    let (topic, body) = next().await;
    assert_eq!((topic.as_str(), &body["variants"][0]["price"]), ("products/update", &json!("19.99")));
    let before = shopify.product(shop, id).unwrap();
    shopify.sell(shop, id, 1);
    let (topic, body) = next().await;
    let stock = json!(before.variants[0].stock - 1);
    assert_eq!((topic.as_str(), &body["variants"][0]["inventory_quantity"]), ("products/update", &stock));
    assert_ne!(body["updated_at"], before.updated_at.rfc3339());
    shopify.delete_product(shop, id);
    assert_eq!(next().await, ("products/delete".to_owned(), json!({"id": id})));
    let collection = shopify.create_collection(shop, "Mine", &[]).unwrap();
    assert_eq!(next().await.0, "collections/create");
    shopify.edit_collection(shop, collection, |one| one.title = "Ours".into());
    let (topic, body) = next().await;
    assert_eq!(
        (topic.as_str(), &body["id"], &body["title"]),
        ("collections/update", &json!(collection), &json!("Ours"))
    );
    shopify.delete_collection(shop, collection);
    assert_eq!(next().await.0, "collections/delete");
    // Neither a shop without the app nor a change of nothing is reported.
    let other: ShopName = "sandbox-2.myshopify.com".parse().unwrap();
    assert!(shopify.create_product(&other, "Unseen").is_some());
    assert!(!shopify.delete_product(shop, id) && !shopify.edit_product(shop, id, |_| ()) && !shopify.sell(shop, id, 1));
    shopify.edit_shop(shop, "name", "Last");
    assert_eq!(next().await.0, "shop/update");
}

#[tokio::test]
async fn webhooks_are_lost_doubled_and_late_as_the_faults_say() {
    let shops = Shops::new().await;
    let (shopify, shop) = (shops.shopify(), &shops.shop);
    let (_face, mut deliveries) = receiver(shopify).await;
    let mut next = async || {
        let (_, body) = deliveries.recv().await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["title"].as_str().unwrap().to_owned()
    };
    let edit = |fault, title: &str| {
        let id = shopify.products(shop)[0];
        shopify.set_shop_fault(shop, fault, true);
        shopify.edit_product(shop, id, |product| product.title = title.to_owned());
    };
    edit(ShopFault::WebhooksLost, "lost");
    shopify.set_shop_fault(shop, ShopFault::WebhooksLost, false);
    edit(ShopFault::WebhooksDuplicated, "twice");
    assert_eq!((next().await, next().await), ("twice".to_owned(), "twice".to_owned()));
    shopify.set_shop_fault(shop, ShopFault::WebhooksDuplicated, false);
    edit(ShopFault::WebhooksLate, "late");
    let id = shopify.create_product(shop, "late too").unwrap();
    // What is sent meanwhile overtakes them.
    for _ in 0..5 {
        assert_eq!(shopify.send(shop, ShopTopic::ShopUpdate, &json!({"id": 0})).await, Some(200));
        let (headers, _) = deliveries.recv().await.unwrap();
        assert_eq!(headers["x-shopify-topic"], "shop/update");
    }
    shopify.clear_faults();
    let mut late = Vec::new();
    for _ in 0..2 {
        let (_, body) = deliveries.recv().await.unwrap();
        late.push(serde_json::from_slice::<Value>(&body).unwrap()["id"].as_u64().unwrap());
    }
    late.sort_unstable();
    assert_eq!(late, [shopify.products(shop)[0], id]);
}
