//! The world's servers, called as a daemon and a browser call them.

mod config;
mod console;
mod graph;
mod shopify;
mod spaces;
mod versions;
mod webhook;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Options, WorldServer, sign};

const SCOPES: &str = "pages_show_list,pages_manage_metadata,pages_read_engagement,business_management";
const ADA: &str = "2210000000000101";

/// A running world, a client, and the steps of a login.
struct Bench {
    server: WorldServer,
    http: reqwest::Client,
    _dir: TempDir,
}

impl Bench {
    async fn new(pages: usize) -> Self {
        Bench::with(|options| options.world.pages = pages).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path());
        change(&mut options);
        let server = WorldServer::start(options).await.unwrap();
        server.register("http://daemon.test");
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Bench { server, http, _dir: dir }
    }

    fn page(&self, number: usize) -> String {
        self.server.world.look(|s| s.pages.keys().nth(number).cloned()).unwrap()
    }

    fn app_token(&self) -> String {
        format!("{}|{}", self.server.app_id, self.server.app_secret)
    }

    fn dialog_url(&self) -> String {
        let redirect = "http%3A%2F%2Fdaemon.test%2Ffacebook%2Fcallback";
        let (base, app) = (&self.server.dialog_url, &self.server.app_id);
        format!("{base}/v26.0/dialog/oauth?client_id={app}&redirect_uri={redirect}&state=s%26t&scope={SCOPES}")
    }

    /// Posts the dialog's form; returns the parameters of the redirect.
    async fn dialog(&self, form: &[(&str, &str)]) -> BTreeMap<String, String> {
        let answer = self.http.post(self.dialog_url()).form(form).send().await.unwrap();
        assert_eq!(answer.status(), 302);
        let location = url::Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
        assert_eq!((location.host_str(), location.path()), (Some("daemon.test"), "/facebook/callback"));
        location.query_pairs().into_owned().collect()
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{}/v26.0{path}", self.server.graph_url)).bearer_auth(token).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn exchange(&self, code: &str, redirect: &str) -> (u16, Value) {
        let form = [
            ("client_id", self.server.app_id.as_str()),
            ("client_secret", &self.server.app_secret),
            ("redirect_uri", redirect),
            ("code", code),
        ];
        let url = format!("{}/v26.0/oauth/access_token", self.server.graph_url);
        let answer = self.http.post(url).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A whole login: the person's long-lived token.
    async fn log_in(&self, person: &str, pages: &str) -> String {
        let form = [("person", person), ("pages", pages), ("decision", "continue")];
        let back = self.dialog(&form).await;
        let (status, short) = self.exchange(&back["code"], "http://daemon.test/facebook/callback").await;
        assert_eq!(status, 200, "{short}");
        let query = format!(
            "/oauth/access_token?grant_type=fb_exchange_token&client_id={}&client_secret={}&fb_exchange_token={}",
            self.server.app_id,
            self.server.app_secret,
            short["access_token"].as_str().unwrap()
        );
        let (status, long) = self.get(&query, "").await;
        assert_eq!(status, 200, "{long}");
        assert!(long["expires_in"].as_u64().unwrap() > 5_000_000);
        long["access_token"].as_str().unwrap().to_owned()
    }

    /// All entries of a listing, and in how many parts they came, how many of them empty.
    async fn all(&self, path: &str, token: &str) -> (Vec<Value>, usize, usize) {
        let (mut entries, mut parts, mut hollow, mut after) = (Vec::new(), 0, 0, String::new());
        loop {
            let (status, part) = self.get(&format!("{path}?limit=100{after}"), token).await;
            assert_eq!(status, 200, "{part}");
            let data = part["data"].as_array().unwrap();
            (parts, hollow) = (parts + 1, hollow + usize::from(data.is_empty()));
            entries.extend(data.iter().cloned());
            if part["paging"]["next"].is_null() {
                return (entries, parts, hollow);
            }
            after = format!("&after={}", part["paging"]["cursors"]["after"].as_str().unwrap());
        }
    }

    /// The page's token, as read with the person's.
    async fn page_token(&self, user_token: &str, page: &str) -> String {
        let (status, node) = self.get(&format!("/{page}?fields=access_token"), user_token).await;
        assert_eq!(status, 200, "{node}");
        node["access_token"].as_str().unwrap().to_owned()
    }

    fn proof(&self, token: &str) -> String {
        sign::hmac_sha256_hex(&self.server.app_secret, token.as_bytes())
    }
}

fn error(answer: &(u16, Value)) -> (u64, u64) {
    let error = &answer.1["error"];
    (error["code"].as_u64().unwrap_or_default(), error["error_subcode"].as_u64().unwrap_or_default())
}
