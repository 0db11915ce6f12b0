//! Bulk operations: all products of a shop in one file, for the first load and the nightly sweep.
//!
//! Shopify prepares the file and puts it on a host of its own, behind a signed address. No token is sent there, no redirect
//! is followed, and only known hosts are asked: the address comes out of an answer. It is a secret for as long as it works,
//! so no error shows it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Response, Url};
use serde_json::{Value, json};

use super::bulk_lines::{Found, Reader};
use super::client::ShopifyClient;
use super::error::{ShopifyError, ShopifyErrorKind};
use super::ids::{self, ProductId};
use super::queries::{BULK_PRODUCTS, BULK_START, BULK_STATUS};
use super::transport::network;
use crate::core::model::{Secret, ShopName};
use crate::sources::scrub::scrub;

/// Where Shopify puts files.
const FILE_HOST: &str = "storage.googleapis.com";
/// The longest time for a file to come. Silence ends it much sooner.
const DOWNLOAD: Duration = Duration::from_secs(6 * 60 * 60);
const CALL: &str = "bulk_download";

/// What became of a wish to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It runs under this id.
    Started(String),
    /// As many operations as the shop allows are running; try again later.
    Busy,
}

/// How an operation is.
#[derive(Clone, PartialEq, Eq)]
pub enum Bulk {
    /// It is not finished.
    Running {
        /// Objects so far.
        objects: u64,
    },
    /// It is complete.
    Done {
        /// The file; `None` when there is nothing in it.
        url: Option<String>,
        /// Lines of the file, where that is said.
        objects: Option<u64>,
    },
    /// It ended without a complete file: start again.
    Failed {
        /// The state and the code, as Shopify writes them.
        why: String,
        /// The scope that it needs is missing.
        is_denied: bool,
    },
    /// Shopify knows nothing of it.
    Unknown,
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bulk::Running { objects } => write!(f, "Running({objects})"),
            Bulk::Done { url, objects } => {
                write!(f, "Done({objects:?}, {})", if url.is_some() { "file" } else { "no file" })
            }
            Bulk::Failed { why, .. } => write!(f, "Failed({why})"),
            Bulk::Unknown => f.write_str("Unknown"),
        }
    }
}

impl ShopifyClient {
    /// Starts the operation that lists all products.
    ///
    /// # Errors
    /// [`ShopifyError`].
    pub async fn start_bulk(&self, shop: &ShopName, token: &Secret) -> Result<Start, ShopifyError> {
        let variables = json!({"query": BULK_PRODUCTS.text});
        let data = self.call(shop, token, &BULK_START, variables).await?;
        started(&data)
    }

    /// Asks how an operation is.
    ///
    /// # Errors
    /// [`ShopifyError`].
    pub async fn bulk_status(&self, shop: &ShopName, token: &Secret, id: &str) -> Result<Bulk, ShopifyError> {
        let data = self.call(shop, token, &BULK_STATUS, json!({"id": id})).await?;
        state_of(&data)
    }

    /// Opens the file of an operation. `objects` is the number of its lines, where that was said.
    ///
    /// # Errors
    /// [`ShopifyErrorKind::BadRequest`] for an address that is not allowed; otherwise [`ShopifyErrorKind::Transient`]:
    /// ask for the state of the operation again, since its address may have expired.
    pub async fn open_bulk(&self, url: &str, objects: Option<u64>) -> Result<BulkFile, ShopifyError> {
        let result = self.try_open(url, objects).await;
        self.inner.count(CALL, result.as_ref().err());
        result
    }

    async fn try_open(&self, url: &str, objects: Option<u64>) -> Result<BulkFile, ShopifyError> {
        let allowed = Url::parse(url).ok().filter(|url| is_allowed(url, self.settings().api_url.is_some()));
        let url = allowed.ok_or_else(|| {
            let text = "the file of the bulk operation lies on a host that is not allowed";
            ShopifyError::local(CALL, ShopifyErrorKind::BadRequest, text)
        })?;
        let answer = self.inner.http.get(url).timeout(DOWNLOAD).send().await.map_err(|e| network(CALL, e, &[]))?;
        let status = answer.status().as_u16();
        if status != 200 {
            let text = "the file of the bulk operation cannot be had";
            return Err(ShopifyError { status: Some(status), ..ShopifyError::odd(CALL, text) });
        }
        Ok(BulkFile { answer: Some(answer), reader: Some(Reader::default()), waiting: VecDeque::new(), objects })
    }
}

/// What became of a wish to start, from the `data` of the answer.
pub(super) fn started(data: &Value) -> Result<Start, ShopifyError> {
    let end = &data["bulkOperationRunQuery"];
    let errors = end["userErrors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_busy = |error: &Value| {
        let text = error["message"].as_str().unwrap_or_default();
        matches!(error["code"].as_str(), Some("OPERATION_IN_PROGRESS" | "LIMIT_REACHED"))
            || text.contains("already in progress")
    };
    if errors.iter().any(is_busy) {
        return Ok(Start::Busy);
    }
    if let Some(error) = errors.first() {
        let text = scrub(error["message"].as_str().unwrap_or_default(), &[]);
        return Err(ShopifyError { kind: ShopifyErrorKind::BadRequest, ..ShopifyError::odd(BULK_START.call, &text) });
    }
    let id = end["bulkOperation"]["id"].as_str().filter(|id| is_operation(id));
    let id = id.ok_or_else(|| ShopifyError::odd(BULK_START.call, "the answer has no operation"))?;
    Ok(Start::Started(id.to_owned()))
}

/// How an operation is, from the `data` of an answer.
pub(super) fn state_of(data: &Value) -> Result<Bulk, ShopifyError> {
    let operation = match data.get("bulkOperation") {
        Some(Value::Null) => return Ok(Bulk::Unknown),
        Some(operation) if operation.is_object() => operation,
        _ => return Err(ShopifyError::odd(BULK_STATUS.call, "the answer has no operation")),
    };
    // Large numbers come as text.
    let count = &operation["objectCount"];
    let objects = count.as_u64().or_else(|| count.as_str()?.parse().ok());
    let code = operation["errorCode"].as_str().unwrap_or_default();
    let status = operation["status"].as_str().unwrap_or_default();
    Ok(match status {
        "CREATED" | "RUNNING" | "CANCELING" => Bulk::Running { objects: objects.unwrap_or(0) },
        "COMPLETED" => Bulk::Done { url: operation["url"].as_str().map(str::to_owned), objects },
        "FAILED" | "CANCELED" | "EXPIRED" => {
            Bulk::Failed { why: scrub(format!("{status} {code}").trim(), &[]), is_denied: code == "ACCESS_DENIED" }
        }
        _ => return Err(ShopifyError::odd(BULK_STATUS.call, "the operation has a state that is not known")),
    })
}

fn is_operation(id: &str) -> bool {
    ids::split(id).is_some_and(|(kind, _)| kind == "BulkOperation")
}

/// May the file of an operation come from here? With a Shopify of tests, from this machine alone.
fn is_allowed(url: &Url, is_of_tests: bool) -> bool {
    let plain = url.username().is_empty() && url.password().is_none();
    let Some(host) = url.host_str() else { return false };
    if !is_of_tests {
        return plain && url.scheme() == "https" && host == FILE_HOST && url.port_or_known_default() == Some(443);
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = address.is_ok_and(|address| address.is_loopback());
    plain
        && matches!(url.scheme(), "http" | "https")
        && (is_loopback || host == "localhost" || host.ends_with(".localhost"))
}

/// The file of an operation, read piece by piece as it is asked for.
pub struct BulkFile {
    answer: Option<Response>,
    reader: Option<Reader>,
    waiting: VecDeque<Found>,
    objects: Option<u64>,
}

impl std::fmt::Debug for BulkFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkFile").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl BulkFile {
    /// The next product or fault; `None` at the end of a complete file.
    ///
    /// # Errors
    /// [`ShopifyErrorKind::Transient`] when the file broke off. What came before it is good; the product that was being
    /// read is named by [`BulkFile::unfinished`], and nothing says what would have followed: nothing may be taken for
    /// deleted because of this file.
    pub async fn next(&mut self) -> Result<Option<Found>, ShopifyError> {
        let mut found = Vec::new();
        while self.waiting.is_empty() {
            let Some(answer) = &mut self.answer else { return Ok(None) };
            let chunk = answer.chunk().await.map_err(|e| network(CALL, e, &[]))?;
            match (chunk, &mut self.reader) {
                (Some(bytes), Some(reader)) => reader.feed(&bytes, &mut found),
                _ => {
                    self.answer = None;
                    let lines = self.reader.take().map_or(0, |reader| reader.finish(&mut found));
                    self.waiting.extend(found.drain(..));
                    if self.objects.is_some_and(|objects| lines < objects) {
                        self.waiting.clear();
                        let text = format!("the file of the bulk operation ends after {lines} lines");
                        return Err(ShopifyError::odd(CALL, &text));
                    }
                }
            }
            self.waiting.extend(found.drain(..));
        }
        Ok(self.waiting.pop_front())
    }

    /// The product that was being read when the file broke off.
    pub fn unfinished(self) -> Option<ProductId> {
        self.reader.and_then(Reader::abandon)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Reply, shop};
    use super::*;
    use crate::core::disposition::Disposition;

    const GID: &str = "gid://shopify/BulkOperation/7";

    fn token() -> Secret {
        Secret::new("shpat_secret")
    }

    fn started(id: Value, errors: Value) -> Reply {
        Reply::data(
            json!({"bulkOperationRunQuery": {"bulkOperation": {"id": id, "status": "CREATED"}, "userErrors": errors}}),
        )
    }

    #[tokio::test]
    async fn an_operation_is_started_once_and_a_busy_shop_waits() {
        let errors = |code: &str| json!([{"code": code, "message": "m"}]);
        let fake = Fake::script([
            started(json!(GID), json!([])),
            started(Value::Null, errors("OPERATION_IN_PROGRESS")),
            started(Value::Null, errors("LIMIT_REACHED")),
            started(Value::Null, errors("INVALID")),
            started(Value::Null, json!([])),
        ]);
        let fake = fake.await;
        let (client, shop, token) = (fake.client(), shop(), token());
        let start = async || client.start_bulk(&shop, &token).await;
        assert_eq!(start().await, Ok(Start::Started(GID.to_owned())));
        assert_eq!(start().await, Ok(Start::Busy));
        assert_eq!(start().await, Ok(Start::Busy));
        assert_eq!(start().await.unwrap_err().disposition(), Disposition::Rejected);
        assert_eq!(start().await.unwrap_err().disposition(), Disposition::Retry);
        assert_eq!(fake.seen()[0].json["variables"]["query"], BULK_PRODUCTS.text);
    }

    #[tokio::test]
    async fn every_state_is_understood() {
        let failed = |why: &str, is_denied| Bulk::Failed { why: why.to_owned(), is_denied };
        let done = Bulk::Done { url: Some("https://x/?sig=1".into()), objects: Some(7) };
        assert!(!format!("{done:?}").contains("sig"));
        for (operation, wanted) in [
            (json!({"status": "CREATED", "objectCount": "0"}), Bulk::Running { objects: 0 }),
            (json!({"status": "RUNNING", "objectCount": "12"}), Bulk::Running { objects: 12 }),
            (json!({"status": "CANCELING"}), Bulk::Running { objects: 0 }),
            (json!({"status": "COMPLETED", "url": "https://x/?sig=1", "objectCount": 7}), done),
            (json!({"status": "COMPLETED", "url": null}), Bulk::Done { url: None, objects: None }),
            (json!({"status": "FAILED", "errorCode": "TIMEOUT"}), failed("FAILED TIMEOUT", false)),
            (json!({"status": "FAILED", "errorCode": "ACCESS_DENIED"}), failed("FAILED ACCESS_DENIED", true)),
            (json!({"status": "CANCELED"}), failed("CANCELED", false)),
            (json!({"status": "EXPIRED"}), failed("EXPIRED", false)),
            (Value::Null, Bulk::Unknown),
        ] {
            let fake = Fake::script([Reply::data(json!({"bulkOperation": operation}))]).await;
            assert_eq!(fake.client().bulk_status(&shop(), &token(), GID).await, Ok(wanted));
        }
        for odd in [json!({}), json!({"bulkOperation": {"status": "NEW"}}), json!({"bulkOperation": 7})] {
            let fake = Fake::script([Reply::data(odd)]).await;
            assert!(fake.client().bulk_status(&shop(), &token(), GID).await.is_err());
        }
    }

    #[test]
    fn only_known_hosts_are_asked_for_files() {
        let allowed = |url: &str, is_of_tests| is_allowed(&Url::parse(url).unwrap(), is_of_tests);
        let file = "https://storage.googleapis.com/shopify/bulk?Signature=x";
        assert!(allowed(file, false) && !allowed(file, true));
        for bad in [
            "http://storage.googleapis.com/x",
            "https://storage.googleapis.com:8443/x",
            "https://storage.googleapis.com@evil.example/x",
            "https://user@storage.googleapis.com/x",
            "https://storage.googleapis.com.evil.example/x",
            "https://evil.example/storage.googleapis.com",
            "https://x.storage.googleapis.com/x",
            "https://127.0.0.1/x",
            "file:///etc/passwd",
        ] {
            assert!(!allowed(bad, false), "{bad}");
        }
        for good in ["http://127.0.0.1:9/x", "http://127.9.9.9/x", "http://[::1]:9/x", "http://files.localhost:9/x"] {
            assert!(allowed(good, true), "{good}");
        }
        for bad in
            ["http://10.0.0.1/x", "http://localhost.evil.example/x", "http://a:b@localhost/x", "ftp://localhost/x"]
        {
            assert!(!allowed(bad, true), "{bad}");
        }
    }

    fn lines(ids: &[u64]) -> String {
        ids.iter().map(|id| format!("{}\n", json!({"id": ProductId(*id).gid()}))).collect()
    }

    async fn read(reply: Reply, objects: Option<u64>) -> (Fake, Vec<u64>, Result<(), ShopifyError>) {
        let fake = Fake::script([reply]).await;
        let mut seen = Vec::new();
        let end = async {
            let mut file = fake.client().open_bulk(&format!("{}/file?sig=sesame", fake.url()), objects).await?;
            while let Some(found) = file.next().await? {
                if let Found::Product(product) = found {
                    seen.push(product.id.0);
                }
            }
            Ok(())
        };
        let end = end.await;
        (fake, seen, end)
    }

    #[tokio::test]
    async fn a_file_is_read_without_a_token() {
        let (fake, seen, end) = read(Reply::Text(200, lines(&[1, 2, 3])), Some(3)).await;
        assert_eq!((seen, end), (vec![1, 2, 3], Ok(())));
        let request = &fake.seen()[0];
        assert!(request.token.is_none() && !request.headers.contains_key("authorization"));
        let (_fake, seen, end) = read(Reply::Text(200, String::new()), None).await;
        assert_eq!((seen, end), (vec![], Ok(())));
    }

    #[tokio::test]
    async fn a_file_that_is_not_whole_is_an_error_that_shows_no_address() {
        let moved = Reply::Headers(302, vec![("location", "https://evil.example/".into())], json!({}));
        for (reply, objects) in [
            (Reply::Text(200, lines(&[1, 2])), Some(3)),
            (Reply::Text(404, String::new()), None),
            (Reply::Text(403, "sesame".to_owned()), None),
            (moved, None),
            (Reply::Truncated(json!({"id": "x".repeat(1000)})), None),
            (Reply::Reset, None),
        ] {
            let (fake, _, end) = read(reply, objects).await;
            let error = end.unwrap_err();
            assert_eq!(error.disposition(), Disposition::Retry);
            assert!(!error.to_string().contains("sesame") && fake.seen().len() == 1, "{error}");
        }
    }

    #[tokio::test]
    async fn a_host_that_is_not_allowed_is_not_asked() {
        let fake = Fake::script([]).await;
        for url in ["https://storage.googleapis.com/x?sig=sesame", "not an address"] {
            let error = fake.client().open_bulk(url, None).await.unwrap_err();
            assert_eq!(error.kind, ShopifyErrorKind::BadRequest);
            assert!(!error.to_string().contains("sesame"));
        }
    }
}
