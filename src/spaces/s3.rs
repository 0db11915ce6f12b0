//! Spaces through rust-s3. The traps of that client, and what is done about each:
//!
//! - Its retries are a process-wide number that applies to reads only; it is set to zero, so that one call is one
//!   request and waiting is decided in one place.
//! - A `Bucket` is a connection pool. One is built per endpoint and cloned; [`S3Store::with_credentials`] swaps the
//!   keys on a clone, so that rotating them keeps the open connections.
//! - Its client has no connect timeout: the limit on the whole operation stands around the call as well.
//! - It **follows redirects**, 303 as a GET whose 200 would look like a success, the others with the same method and a
//!   signature that does not fit. So a put must be answered with an entity tag that fits the body, and a delete with
//!   204. Towards another host the signature is left behind, and a private bucket refuses what is not signed.
//! - It hands error documents on whole; [`error`](super::error) lets nothing but their code through. A document's size
//!   is bounded by the time the operation may take, not by a number of bytes.
//! - It resolves `..` in keys into other buckets: [`ObjectKey`] cannot hold one.
//!
//! - It knows neither GetBucketVersioning nor ListObjectVersions. A bucket handle with other query parameters asks both
//!   as a read of the bucket's root, signed like every other request.
//!
//! # Erasing
//!
//! The bucket is asked whether it keeps versions, and the answer believed for [`BELIEVED`]. One that never did gets a
//! plain delete, whose own answer speaks of a version if that has changed meanwhile. In any other, what ListObjectVersions
//! names under exactly this key is deleted version by version, until it names nothing. Where the key may not ask, or
//! the endpoint does not know the question, a plain delete is all that can be done; that is said, in the log once and
//! to the caller each time.
//!
//! Every put sends and signs `Content-MD5` and the SHA-256 of the body, both of which Spaces checks, and the tag that
//! comes back is compared when it is a plain MD5 (32 hexadecimal digits; tags of other shapes are taken as they are).

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use s3::creds::Credentials;
use s3::error::S3Error;
use s3::request::ResponseDataStream;
use s3::{Bucket, Region};

use super::{
    CONTENT_TYPE, Erased, Head, MAX_OBJECT_BYTES, ObjectStore, PutDone, SpacesError, SpacesErrorKind, Versioning,
    plain_etag, versions,
};
use crate::metrics::Metrics;
use crate::model::{Millis, ObjectKey, Secret};

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
}

/// How long it is believed whether the bucket keeps versions.
pub const BELIEVED: Duration = Duration::from_secs(10 * 60);
/// Listings of one object's versions that are worked through in one go; what is left is a matter of another.
const ROUNDS: usize = 20;

/// A bucket in Spaces, or in anything that speaks S3.
pub struct S3Store {
    bucket: Bucket,
    limit: Duration,
    metrics: Arc<Metrics>,
    versioning: Arc<Mutex<Option<(Millis, Versioning)>>>,
    warned: Arc<AtomicBool>,
}

impl S3Store {
    /// Prepares the connection pool. Nothing is sent.
    ///
    /// # Errors
    /// [`Misconfigured`](SpacesErrorKind::Misconfigured) when no request can be made from the settings.
    pub fn new(settings: SpacesSettings, metrics: Arc<Metrics>) -> Result<Self, SpacesError> {
        s3::set_retries(0);
        let credentials = credentials(&settings.access_key, &settings.secret_key)?;
        let region =
            Region::Custom { region: settings.region, endpoint: settings.endpoint.trim_end_matches('/').to_owned() };
        let bucket = Bucket::new(&settings.bucket, region, credentials).map_err(unusable)?;
        let mut bucket = if settings.path_style { bucket.with_path_style() } else { bucket };
        bucket.set_request_timeout(Some(settings.request_timeout));
        let (versioning, warned) = Default::default();
        Ok(S3Store { bucket: *bucket, limit: settings.request_timeout, metrics, versioning, warned })
    }

    /// The same bucket and the same open connections with other keys.
    ///
    /// # Errors
    /// [`Misconfigured`](SpacesErrorKind::Misconfigured) when a key is empty.
    pub fn with_credentials(&self, access_key: &Secret, secret_key: &Secret) -> Result<Self, SpacesError> {
        let mut bucket = self.bucket.clone();
        bucket.set_credentials(credentials(access_key, secret_key)?);
        let (versioning, warned) = (Arc::clone(&self.versioning), Arc::clone(&self.warned));
        Ok(S3Store { bucket, limit: self.limit, metrics: Arc::clone(&self.metrics), versioning, warned })
    }

    /// Holds the operation to its time and counts its outcome.
    async fn bounded<T>(
        &self,
        op: &'static str,
        work: impl Future<Output = Result<T, SpacesError>> + Send,
    ) -> Result<T, SpacesError> {
        let outcome = match tokio::time::timeout(self.limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SpacesError::timed_out(op)),
        };
        let word = outcome.as_ref().map_or_else(|error| error.kind.word(), |_| "ok");
        self.metrics.spaces_request(op, word);
        outcome
    }

    async fn send_put(&self, key: &ObjectKey, body: Bytes) -> Result<PutDone, SpacesError> {
        let reported = |error| SpacesError::reported("put", error);
        let request = self
            .bucket
            .put_object_builder(key.as_str(), &body)
            .with_content_type(CONTENT_TYPE)
            .with_header("x-amz-acl", "private")
            .map_err(reported)?;
        let answer = request.execute().await.map_err(reported)?;
        let etag = unquoted(answer.as_str().unwrap_or_default());
        check_etag(&etag, &body)?;
        Ok(PutDone { etag })
    }

    async fn send_head(&self, key: &ObjectKey) -> Result<Option<Head>, SpacesError> {
        let told = match self.bucket.head_object(key.as_str()).await {
            Ok((told, _)) => told,
            Err(S3Error::HttpFailWithBody(404, _)) => return Ok(None),
            Err(error) => return Err(SpacesError::reported("head", error)),
        };
        let length = told.content_length.and_then(|length| u64::try_from(length).ok());
        let (Some(etag), Some(content_length)) = (told.e_tag, length) else {
            return Err(SpacesError::new("head", SpacesErrorKind::Corrupt, "the answer names no tag or no length"));
        };
        Ok(Some(Head { etag: unquoted(&etag), content_length, content_type: told.content_type }))
    }

    async fn send_get(&self, key: &ObjectKey) -> Result<Option<Bytes>, SpacesError> {
        match self.bucket.get_object_stream(key.as_str()).await {
            Ok(answer) => whole("get", answer).await.map(Some),
            Err(error) => absent_or("get", error).map(|()| None),
        }
    }

    /// Removes the object, or the version of it that the bucket handle's query names. Did the answer speak of versions?
    async fn send_delete(bucket: &Bucket, key: &ObjectKey) -> Result<bool, SpacesError> {
        match bucket.delete_object(key.as_str()).await {
            Ok(answer) if answer.status_code() == 204 => {
                let headers = answer.headers();
                Ok(["x-amz-version-id", "x-amz-delete-marker"].iter().any(|name| headers.contains_key(*name)))
            }
            Ok(answer) => Err(SpacesError {
                status: Some(answer.status_code()),
                ..SpacesError::new("delete", SpacesErrorKind::Corrupt, "the answer is not S3's answer to a deletion")
            }),
            Err(error) => absent_or("delete", error).map(|()| false),
        }
    }

    /// The same bucket, asked with these query parameters.
    fn asked(&self, query: &[(&str, &str)]) -> Result<Bucket, SpacesError> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.bucket.with_extra_query(query).map_err(unusable)
    }

    /// A document about the bucket.
    async fn send_question(&self, op: &'static str, query: &[(&str, &str)]) -> Result<String, SpacesError> {
        let bucket = self.asked(query)?;
        let answer = bucket.get_object_stream("/").await.map_err(|error| SpacesError::reported(op, error))?;
        let document = whole(op, answer).await?;
        Ok(String::from_utf8_lossy(&document).into_owned())
    }

    async fn ask_versioning(&self) -> Result<Versioning, SpacesError> {
        let believed = *self.versioning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, versioning)) = believed.filter(|(at, _)| Millis::steady().since(*at) < BELIEVED) {
            return Ok(versioning);
        }
        let asked = self.bounded("versioning", self.send_question("versioning", &[("versioning", "")])).await;
        let versioning = match asked {
            Ok(document) => versions::status(&document).unwrap_or(Versioning::Untold),
            Err(error) if is_refused(&error) => Versioning::Untold,
            Err(error) => return Err(error),
        };
        *self.versioning.lock().unwrap_or_else(PoisonError::into_inner) = Some((Millis::steady(), versioning));
        Ok(versioning)
    }

    async fn plain_delete(&self, key: &ObjectKey) -> Result<bool, SpacesError> {
        self.bounded("delete", Self::send_delete(&self.bucket, key)).await
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
                self.bounded("delete", Self::send_delete(&version, key)).await?;
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
                    tracing::warn!(%error, "the bucket does not tell or does not delete older versions of objects; deletions remove the object alone");
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

/// A body, as far as one may be long.
async fn whole(op: &'static str, mut answer: ResponseDataStream) -> Result<Bytes, SpacesError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.bytes().next().await {
        let chunk = chunk.map_err(|error| SpacesError::reported(op, error))?;
        if body.len() + chunk.len() > MAX_OBJECT_BYTES {
            let text = format!("the object is larger than {MAX_OBJECT_BYTES} bytes");
            return Err(SpacesError::new(op, SpacesErrorKind::Corrupt, text));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

impl ObjectStore for S3Store {
    fn put<'a>(&'a self, key: &'a ObjectKey, body: Bytes) -> BoxFuture<'a, Result<PutDone, SpacesError>> {
        Box::pin(self.bounded("put", self.send_put(key, body)))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Head>, SpacesError>> {
        Box::pin(self.bounded("head", self.send_head(key)))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Bytes>, SpacesError>> {
        Box::pin(self.bounded("get", self.send_get(key)))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), SpacesError>> {
        Box::pin(async move { self.plain_delete(key).await.map(drop) })
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
    SpacesError::reported("setup", error)
}

/// A 404 that S3 itself says is about the object; a 404 about anything else is an error.
fn absent_or(op: &'static str, error: S3Error) -> Result<(), SpacesError> {
    let error = SpacesError::reported(op, error);
    let absent = error.status == Some(404) && error.code.as_deref() == Some("NoSuchKey");
    if absent { Ok(()) } else { Err(error) }
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
