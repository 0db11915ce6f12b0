use std::sync::Arc;

use tokio::sync::mpsc;

use super::*;
use crate::sandbox::fault::Fault;
use crate::sandbox::sign::{hmac_sha1_hex, hmac_sha256_hex};
use crate::sandbox::wire::{Face, Gate, Handler, collect, full};

struct Delivery {
    body: Vec<u8>,
    sha256: Option<String>,
    sha1: Option<String>,
}

/// A callback that answers the handshake and passes deliveries on, the first `refusals` of them with 503.
async fn callback(refusals: u32) -> (Face, String, mpsc::UnboundedReceiver<Delivery>) {
    let (tell, heard) = mpsc::unbounded_channel();
    let left = Arc::new(std::sync::atomic::AtomicU32::new(refusals));
    let handler: Handler = Arc::new(move |request| {
        let (tell, left) = (tell.clone(), left.clone());
        Box::pin(async move {
            let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
            if request.method() == "GET" {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
                let right = query["hub.verify_token"] == "right" && query["hub.mode"] == "subscribe";
                let answer = if right { query["hub.challenge"].clone() } else { "no".into() };
                return Ok(http::Response::builder().status(if right { 200 } else { 403 }).body(full(answer)).unwrap());
            }
            let (sha256, sha1) = (header("x-hub-signature-256"), header("x-hub-signature"));
            let body = collect(request.into_body(), 1 << 20).await.unwrap().to_vec();
            tell.send(Delivery { body, sha256, sha1 }).unwrap();
            let refuse =
                left.try_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |n| {
                    n.checked_sub(1)
                });
            Ok(http::Response::builder().status(if refuse.is_ok() { 503 } else { 200 }).body(full("{}")).unwrap())
        })
    });
    let gate: Gate = Arc::new(|| true);
    let (_, changes) = tokio::sync::watch::channel(0);
    let face = Face::start("127.0.0.1:0".parse().unwrap(), handler, gate, changes).await.unwrap();
    let url = format!("http://{}/hook", face.addr);
    (face, url, heard)
}

impl Bench {
    async fn app_subscribe(&self, url: &str, verify_token: &str) -> (u16, Value) {
        let form = [
            ("object", "page"),
            ("callback_url", url),
            ("verify_token", verify_token),
            ("fields", "name,phone,email"),
            ("include_values", "true"),
        ];
        let path = format!("{}/v26.0/{}/subscriptions", self.server.graph_url, self.server.app_id);
        let answer = self.http.post(path).bearer_auth(self.app_token()).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn page_subscribe(&self, page: &str, fields: &str) {
        let user = self.log_in(ADA, "all").await;
        let token = self.page_token(&user, page).await;
        let url = format!("{}/v26.0/{page}/subscribed_apps", self.server.graph_url);
        let answer = self.http.post(url).bearer_auth(token).form(&[("subscribed_fields", fields)]).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn both_subscriptions_make_a_signed_delivery_that_is_tried_until_taken() {
    let bench = Bench::new(2).await;
    let (_face, url, mut heard) = callback(1).await;
    assert_eq!(error(&bench.app_subscribe(&url, "wrong").await).0, 2200);
    assert_eq!(error(&bench.app_subscribe("http://127.0.0.1:9/", "right").await).0, 2200);
    assert_eq!(bench.app_subscribe(&url, "right").await.0, 200);
    let path = format!("/{}/subscriptions", bench.server.app_id);
    let listed = bench.get(&path, &bench.app_token()).await.1;
    assert_eq!(
        (&listed["data"][0]["callback_url"], listed["data"][0]["fields"].as_array().unwrap().len()),
        (&url.into(), 3)
    );

    let page = bench.page(0);
    bench.page_subscribe(&page, "name,website,email").await;
    // `website` is not subscribed at app level, `phone` not at page level, `about` has no field.
    for (field, value) in [("website", "https://x.example"), ("phone", "1"), ("about", "x"), ("name", "Grüne Bücher/1")]
    {
        assert!(bench.server.world.edit_page(&page, field, value.into()).unwrap());
    }
    let first = heard.recv().await.unwrap();
    let again = heard.recv().await.unwrap();
    assert_eq!(first.body, again.body, "the retry is the same to the byte");
    let text = String::from_utf8(first.body.clone()).unwrap();
    assert!(text.contains(r#""value":"Gr\u00fcne B\u00fccher\/1""#), "{text}");
    assert!(!text.contains("website") && !text.contains("phone"));
    let secret = &bench.server.app_secret;
    assert_eq!(first.sha256, Some(format!("sha256={}", hmac_sha256_hex(secret, &first.body))));
    assert_eq!(first.sha1, Some(format!("sha1={}", hmac_sha1_hex(secret, &first.body))));

    bench.server.world.edit_page(&page, "emails", serde_json::json!(["new@x.example"])).unwrap();
    let value: Value = serde_json::from_slice(&heard.recv().await.unwrap().body).unwrap();
    assert_eq!(value["entry"][0]["changes"], serde_json::json!([{"field": "email"}]));
}

#[tokio::test]
async fn webhooks_are_doubled_kept_back_and_forged_on_demand() {
    let bench = Bench::new(1).await;
    let (_face, url, mut heard) = callback(0).await;
    assert_eq!(bench.app_subscribe(&url, "right").await.0, 200);
    let page = bench.page(0);
    bench.page_subscribe(&page, "name").await;
    let world = &bench.server.world;
    world.set_fault(Fault::WebhooksDuplicated, true);
    world.edit_page(&page, "name", "A".into()).unwrap();
    assert_eq!(heard.recv().await.unwrap().body, heard.recv().await.unwrap().body);
    world.clear_faults();

    while world.undelivered() > 0 {
        tokio::task::yield_now().await;
    }
    world.set_fault(Fault::WebhooksLate, true);
    world.edit_page(&page, "name", "B".into()).unwrap();
    world.edit_page(&page, "name", "C".into()).unwrap();
    assert_eq!(world.undelivered(), 2);
    world.set_fault(Fault::WebhooksReordered, true);
    world.set_fault(Fault::WebhooksLate, false);
    let value: Value = serde_json::from_slice(&heard.recv().await.unwrap().body).unwrap();
    let names: Vec<_> = value["entry"][0]["changes"].as_array().unwrap().iter().map(|c| c["value"].clone()).collect();
    assert_eq!(names, ["C", "B"]);
    world.clear_faults();

    world.set_fault(Fault::WebhooksForged, true);
    assert_eq!(world.send_raw("{}", Some(&world.sign(b"{}"))).await.unwrap(), 200);
    assert_eq!(heard.recv().await.unwrap().sha256, Some(world.sign(b"{}")));
    world.edit_page(&page, "name", "D".into()).unwrap();
    let forged = heard.recv().await.unwrap();
    assert_ne!(forged.sha256, Some(world.sign(&forged.body)));
}

#[tokio::test]
async fn the_two_callbacks_bring_a_signed_request() {
    let bench = Bench::new(1).await;
    let (_face, url, mut heard) = callback(0).await;
    bench.server.world.change(|s| {
        s.app.deauthorize_url = Some(url.clone());
        s.app.data_deletion_url = Some(url.clone());
    });
    assert_eq!(bench.server.world.send_deauthorize(ADA).await.unwrap(), 200);
    assert_eq!(bench.server.world.send_data_deletion(ADA).await.unwrap(), (200, serde_json::json!({})));
    assert!(bench.server.world.send_deauthorize("1").await.is_err());
    let body = String::from_utf8(heard.recv().await.unwrap().body).unwrap();
    let request = body.strip_prefix("signed_request=").unwrap();
    let (signature, payload) = request.split_once('.').unwrap();
    use base64::Engine;
    let decode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    let right = hmac_sha256_hex(&bench.server.app_secret, payload.as_bytes());
    assert_eq!(hex::encode(decode(signature)), right);
    let claims: Value = serde_json::from_slice(&decode(payload)).unwrap();
    assert_eq!((&claims["user_id"], &claims["algorithm"]), (&ADA.into(), &"HMAC-SHA256".into()));
}
