//! Spaces through rust-s3, which builds and signs each request; [`exchange`] sends it and reads the answer. The traps
//! of rust-s3 that are left, and the answer to each:
//!
//! - A `Bucket` holds an HTTP client of its own, which is never used. The client in use is made per endpoint and
//!   shared; [`S3Store::with_credentials`] swaps the keys on a clone of the bucket, so that rotating them keeps the
//!   open connections.
//! - It resolves `..` in keys into other buckets: [`ObjectKey`] cannot hold one.
//! - It knows neither GetBucketVersioning nor ListObjectVersions. A bucket handle with other query parameters asks both
//!   as a read of the bucket's root, signed like every other request.
//!
//! A put must be answered with an entity tag that fits the body, and a delete with 204: another server's 200 is no
//! success.
//!
//! # Erasing
//!
//! The bucket is asked whether it keeps versions, and the answer is cached for [`BELIEVED`]. A bucket that never did
//! gets a plain delete, whose own answer names a version if that has changed meanwhile. In any other, everything that
//! ListObjectVersions names under exactly this key is deleted version by version, until it names nothing. If the access
//! key may not ask, or the endpoint does not support the question, only a plain delete is possible; the log reports
//! that once, and the caller gets it each time.
//!
//! Every put sends and signs `Content-MD5` and the SHA-256 of the body, both of which Spaces checks, and the tag that
//! comes back is compared when it is a plain MD5 (32 hexadecimal digits; tags of other shapes are taken as they are).

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header};
use reqwest::{Client, ClientBuilder};
use s3::command::Command;
use s3::creds::Credentials;
use s3::error::S3Error;
use s3::{Bucket, Region};

use super::exchange::{self, Answer, Question};
use super::{
    CONTENT_TYPE, Erased, Head, Listing, MAX_OBJECT_BYTES, ObjectStore, PutDone, SpacesError, SpacesErrorKind,
    Versioning, listing, plain_etag, versions,
};
use crate::core::model::{LinkKey, MonoTime, ObjectKey, Secret};
use crate::http_client::{self, Trust};
use crate::metrics::Metrics;
use crate::traces;

/// What it takes to reach a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpacesSettings {
    /// The region in the signature's scope, `nyc3` for example.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// The endpoint without the bucket, with its scheme.
    pub endpoint: String,
    /// The access key id.
    pub access_key: Secret,
    /// The secret key.
    pub secret_key: Secret,
    /// The bucket as the path's first segment, where its name is no host name.
    pub path_style: bool,
    /// The most that one operation may take, from connecting to the answer's last byte.
    pub request_timeout: Duration,
    /// Requests at a time; as many connections are kept.
    pub max_in_flight: usize,
    /// Authorities that may sign the endpoint's certificate, beside the built-in ones.
    pub trust: Trust,
}

/// How long it is believed whether the bucket keeps versions.
pub const BELIEVED: Duration = Duration::from_secs(10 * 60);
/// Listings of one object's versions that are worked through in one go; what is left is a matter of another.
const ROUNDS: usize = 20;
/// Objects in one list, the most that S3 allows.
const LISTED_AT_ONCE: &str = "1000";
const ACL: header::HeaderName = header::HeaderName::from_static("x-amz-acl");
/// The longest body of an answer that needs none. A proxy may put one there; read, it leaves the connection usable.
const NO_BODY: usize = 16 << 10;

/// A bucket in Spaces, or in anything that speaks S3.
pub struct S3Store {
    http: Client,
    bucket: Bucket,
    limit: Duration,
    metrics: Arc<Metrics>,
    versioning: Arc<Mutex<Option<(MonoTime, Versioning)>>>,
    warned: Arc<AtomicBool>,
}

impl S3Store {
    /// Prepares the connection pool. Nothing is sent.
    ///
    /// # Errors
    /// [`Misconfigured`](SpacesErrorKind::Misconfigured) when no request can be made from the settings.
    pub fn new(settings: SpacesSettings, metrics: Arc<Metrics>) -> Result<Self, SpacesError> {
        let http = http_client::client(settings.request_timeout, &settings.trust);
        S3Store::over(http, settings, metrics)
    }

    /// The same for bodies of any length: a request may be silent for as long as it may take.
    pub(super) fn patient(settings: SpacesSettings, metrics: Arc<Metrics>) -> Result<Self, SpacesError> {
        let limit = settings.request_timeout;
        let http = http_client::client(limit, &settings.trust).read_timeout(limit);
        S3Store::over(http, settings, metrics)
    }

    fn over(http: ClientBuilder, settings: SpacesSettings, metrics: Arc<Metrics>) -> Result<Self, SpacesError> {
        let credentials = credentials(&settings.access_key, &settings.secret_key)?;
        let limit = settings.request_timeout;
        // One connection for each request under way. HTTP/2 would put them all on one, and a Host header in each.
        let http = http.http1_only().pool_max_idle_per_host(settings.max_in_flight).build();
        let http = http.map_err(|error| SpacesError::transport("setup", error))?;
        let region =
            Region::Custom { region: settings.region, endpoint: settings.endpoint.trim_end_matches('/').to_owned() };
        let bucket = Bucket::new(&settings.bucket, region, credentials).map_err(unusable)?;
        let bucket = if settings.path_style { bucket.with_path_style() } else { bucket };
        let (versioning, warned) = Default::default();
        Ok(S3Store { http, bucket: *bucket, limit, metrics, versioning, warned })
    }

    /// The same bucket and the same open connections with other keys.
    ///
    /// # Errors
    /// [`Misconfigured`](SpacesErrorKind::Misconfigured) when a key is empty.
    pub fn with_credentials(&self, access_key: &Secret, secret_key: &Secret) -> Result<Self, SpacesError> {
        let mut bucket = self.bucket.clone();
        bucket.set_credentials(credentials(access_key, secret_key)?);
        let (http, limit) = (self.http.clone(), self.limit);
        let (versioning, warned) = (Arc::clone(&self.versioning), Arc::clone(&self.warned));
        Ok(S3Store { http, bucket, limit, metrics: Arc::clone(&self.metrics), versioning, warned })
    }

    /// Holds the operation to its time and counts its outcome.
    pub(super) async fn bounded<T>(
        &self,
        op: &'static str,
        work: impl Future<Output = Result<T, SpacesError>> + Send,
    ) -> Result<T, SpacesError> {
        let span = traces::request("spaces", op);
        let outcome = match tokio::time::timeout(self.limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SpacesError::timed_out(op)),
        };
        let word = outcome.as_ref().map_or_else(|error| error.kind.word(), |_| "ok");
        self.metrics.spaces_request(op, word);
        span.end_with(word);
        outcome
    }

    /// A question without a body.
    async fn ask(
        &self,
        bucket: &Bucket,
        op: &'static str,
        path: &str,
        command: Command<'_>,
        most: usize,
    ) -> Result<Answer, SpacesError> {
        exchange::ask(&self.http, bucket, Question { op, path, command, body: Bytes::new(), most }).await
    }

    async fn send_put(&self, key: &ObjectKey, body: Bytes) -> Result<PutDone, SpacesError> {
        let private = HeaderMap::from_iter([(ACL, HeaderValue::from_static("private"))]);
        let command = Command::PutObject {
            content: &body,
            content_type: CONTENT_TYPE,
            custom_headers: Some(private),
            multipart: None,
        };
        let question = Question { op: "put", path: key.as_str(), command, body: body.clone(), most: NO_BODY };
        let answer = exchange::ask(&self.http, &self.bucket, question).await?;
        let etag = unquoted(text(&answer.headers, &header::ETAG).unwrap_or_default());
        check_etag(&etag, &body)?;
        Ok(PutDone { etag })
    }

    async fn send_head(&self, key: &ObjectKey) -> Result<Option<Head>, SpacesError> {
        let answer = match self.ask(&self.bucket, "head", key.as_str(), Command::HeadObject, NO_BODY).await {
            Ok(answer) => answer,
            Err(error) if error.status == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = text(&answer.headers, &header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let (Some(etag), Some(content_length)) = (text(&answer.headers, &header::ETAG), length) else {
            return Err(SpacesError::new("head", SpacesErrorKind::Corrupt, "the answer names no tag or no length"));
        };
        let content_type = text(&answer.headers, &header::CONTENT_TYPE).map(str::to_owned);
        Ok(Some(Head { etag: unquoted(etag), content_length, content_type }))
    }

    pub(super) async fn send_get(&self, key: &ObjectKey, most: usize) -> Result<Option<Bytes>, SpacesError> {
        match self.ask(&self.bucket, "get", key.as_str(), Command::GetObject, most).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) => absent_or(error).map(|()| None),
        }
    }

    /// Removes the object, or the version of it that the bucket handle's query names. Did the answer speak of versions?
    async fn send_delete(&self, bucket: &Bucket, key: &ObjectKey) -> Result<bool, SpacesError> {
        match self.ask(bucket, "delete", key.as_str(), Command::DeleteObject, NO_BODY).await {
            Ok(answer) if answer.status == 204 => {
                let headers = answer.headers;
                Ok(["x-amz-version-id", "x-amz-delete-marker"].iter().any(|name| headers.contains_key(*name)))
            }
            Ok(answer) => Err(SpacesError {
                status: Some(answer.status),
                ..SpacesError::new("delete", SpacesErrorKind::Corrupt, "the answer is not S3's answer to a deletion")
            }),
            Err(error) => absent_or(error).map(|()| false),
        }
    }

    /// The same bucket, asked with these query parameters.
    fn asked(&self, query: &[(&str, &str)]) -> Result<Bucket, SpacesError> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.bucket.with_extra_query(query).map_err(unusable)
    }

    /// A document about the bucket.
    pub(super) async fn send_question(&self, op: &'static str, query: &[(&str, &str)]) -> Result<String, SpacesError> {
        let bucket = self.asked(query)?;
        let answer = self.ask(&bucket, op, "/", Command::GetObject, MAX_OBJECT_BYTES).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    async fn ask_versioning(&self) -> Result<Versioning, SpacesError> {
        let believed = *self.versioning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, versioning)) = believed.filter(|(at, _)| MonoTime::now().since(*at) < BELIEVED) {
            return Ok(versioning);
        }
        let asked = self.bounded("versioning", self.send_question("versioning", &[("versioning", "")])).await;
        let versioning = match asked {
            Ok(document) => versions::status(&document).unwrap_or(Versioning::Untold),
            Err(error) if is_refused(&error) => Versioning::Untold,
            Err(error) => return Err(error),
        };
        *self.versioning.lock().unwrap_or_else(PoisonError::into_inner) = Some((MonoTime::now(), versioning));
        Ok(versioning)
    }

    async fn send_list(&self, link: &LinkKey, after: Option<&str>) -> Result<Listing, SpacesError> {
        let prefix = ObjectKey::prefix(link);
        let mut query = vec![("list-type", "2"), ("max-keys", LISTED_AT_ONCE), ("prefix", prefix.as_str())];
        query.extend(after.map(|after| ("start-after", after)));
        let document = self.send_question("list", &query).await?;
        let not_understood = || SpacesError::new("list", SpacesErrorKind::Corrupt, "the list cannot be read");
        listing::read(&document).ok_or_else(not_understood)
    }

    async fn plain_delete(&self, key: &ObjectKey) -> Result<bool, SpacesError> {
        self.bounded("delete", self.send_delete(&self.bucket, key)).await
    }

    /// Deletes version by version until there is none.
    async fn delete_versions(&self, key: &ObjectKey) -> Result<(), SpacesError> {
        for _ in 0..ROUNDS {
            let query = [("versions", ""), ("prefix", key.as_str())];
            let document = self.bounded("versions", self.send_question("versions", &query)).await?;
            let not_understood = || SpacesError::new("versions", SpacesErrorKind::Corrupt, "the list cannot be read");
            let ids = versions::ids(&document, key.as_str()).ok_or_else(not_understood)?;
            if ids.is_empty() {
                return Ok(());
            }
            for id in ids {
                let version = self.asked(&[("versionId", &id)])?;
                self.bounded("delete", self.send_delete(&version, key)).await?;
            }
        }
        Err(SpacesError::new("versions", SpacesErrorKind::Busy, "there are more versions than are removed in one go"))
    }

    async fn erase_all(&self, key: &ObjectKey) -> Result<Erased, SpacesError> {
        if self.ask_versioning().await? == Versioning::Never {
            if !self.plain_delete(key).await? {
                return Ok(Erased::Whole);
            }
            // Switched on since it was asked.
            *self.versioning.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        match self.delete_versions(key).await {
            Ok(()) => Ok(Erased::Whole),
            Err(error) if is_refused(&error) => {
                self.plain_delete(key).await?;
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "spaces: the bucket does not tell or does not delete older versions of objects ({error}), \
                         deletions remove the object alone; give the key the right to list and delete versions"
                    );
                }
                Ok(Erased::PerhapsNotVersions)
            }
            Err(error) => Err(error),
        }
    }
}

/// A question that this endpoint does not know or this key may not ask, rather than one to ask again.
fn is_refused(error: &SpacesError) -> bool {
    matches!(error.kind, SpacesErrorKind::Misconfigured { .. } | SpacesErrorKind::Corrupt)
}

impl ObjectStore for S3Store {
    fn put<'a>(&'a self, key: &'a ObjectKey, body: Bytes) -> BoxFuture<'a, Result<PutDone, SpacesError>> {
        Box::pin(self.bounded("put", self.send_put(key, body)))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Head>, SpacesError>> {
        Box::pin(self.bounded("head", self.send_head(key)))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Bytes>, SpacesError>> {
        Box::pin(self.bounded("get", self.send_get(key, MAX_OBJECT_BYTES)))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), SpacesError>> {
        Box::pin(async move { self.plain_delete(key).await.map(drop) })
    }

    fn list<'a>(&'a self, link: &'a LinkKey, after: Option<&'a str>) -> BoxFuture<'a, Result<Listing, SpacesError>> {
        Box::pin(self.bounded("list", self.send_list(link, after)))
    }

    fn erase<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Erased, SpacesError>> {
        Box::pin(self.erase_all(key))
    }

    fn versioning<'a>(&'a self) -> BoxFuture<'a, Result<Versioning, SpacesError>> {
        Box::pin(self.ask_versioning())
    }
}

/// Explicit keys: without them the client would go looking in the environment and in the machine's metadata service.
fn credentials(access_key: &Secret, secret_key: &Secret) -> Result<Credentials, SpacesError> {
    if access_key.is_empty() || secret_key.is_empty() {
        let reason = "spaces.access_key and spaces.secret_key must both be given";
        return Err(SpacesError::of("setup", SpacesErrorKind::Misconfigured { reason }));
    }
    Credentials::new(Some(access_key.expose()), Some(secret_key.expose()), None, None, None)
        .map_err(|error| unusable(S3Error::Credentials(error)))
}

fn unusable(error: S3Error) -> SpacesError {
    SpacesError::unusable("setup", &error)
}

/// A 404 that S3 itself says is about the object; a 404 about anything else is an error.
fn absent_or(error: SpacesError) -> Result<(), SpacesError> {
    let absent = error.status == Some(404) && error.code.as_deref() == Some("NoSuchKey");
    if absent { Ok(()) } else { Err(error) }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

fn check_etag(etag: &str, body: &[u8]) -> Result<(), SpacesError> {
    let plain = etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_hexdigit());
    let message = match etag {
        "" => "the answer names no tag, so nothing shows that the object is stored",
        _ if plain && !etag.eq_ignore_ascii_case(&plain_etag(body)) => "what spaces stored is not what was sent",
        _ => return Ok(()),
    };
    Err(SpacesError::new("put", SpacesErrorKind::Corrupt, message))
}
