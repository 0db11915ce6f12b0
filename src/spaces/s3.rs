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
//! Every put sends and signs `Content-MD5` and the SHA-256 of the body, both of which Spaces checks, and the tag that
//! comes back is compared when it is a plain MD5 (32 hexadecimal digits; tags of other shapes are taken as they are).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use s3::creds::Credentials;
use s3::error::S3Error;
use s3::{Bucket, Region};

use super::{CONTENT_TYPE, Head, MAX_OBJECT_BYTES, ObjectStore, PutDone, SpacesError, SpacesErrorKind, plain_etag};
use crate::metrics::Metrics;
use crate::model::{ObjectKey, Secret};

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

/// A bucket in Spaces, or in anything that speaks S3.
pub struct S3Store {
    bucket: Bucket,
    limit: Duration,
    metrics: Arc<Metrics>,
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
        Ok(S3Store { bucket: *bucket, limit: settings.request_timeout, metrics })
    }

    /// The same bucket and the same open connections with other keys.
    ///
    /// # Errors
    /// [`Misconfigured`](SpacesErrorKind::Misconfigured) when a key is empty.
    pub fn with_credentials(&self, access_key: &Secret, secret_key: &Secret) -> Result<Self, SpacesError> {
        let mut bucket = self.bucket.clone();
        bucket.set_credentials(credentials(access_key, secret_key)?);
        Ok(S3Store { bucket, limit: self.limit, metrics: Arc::clone(&self.metrics) })
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
        let mut answer = match self.bucket.get_object_stream(key.as_str()).await {
            Ok(answer) => answer,
            Err(error) => return absent_or("get", error).map(|()| None),
        };
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.bytes().next().await {
            let chunk = chunk.map_err(|error| SpacesError::reported("get", error))?;
            if body.len() + chunk.len() > MAX_OBJECT_BYTES {
                let text = format!("the object is larger than {MAX_OBJECT_BYTES} bytes");
                return Err(SpacesError::new("get", SpacesErrorKind::Corrupt, text));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body.freeze()))
    }

    async fn send_delete(&self, key: &ObjectKey) -> Result<(), SpacesError> {
        match self.bucket.delete_object(key.as_str()).await {
            Ok(answer) if answer.status_code() == 204 => Ok(()),
            Ok(answer) => Err(SpacesError {
                status: Some(answer.status_code()),
                ..SpacesError::new("delete", SpacesErrorKind::Corrupt, "the answer is not S3's answer to a deletion")
            }),
            Err(error) => absent_or("delete", error),
        }
    }
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
        Box::pin(self.bounded("delete", self.send_delete(key)))
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
