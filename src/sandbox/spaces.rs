//! The local S3: objects as files under a folder, with signatures checked.
//!
//! The store itself is s3s over its file system backend, path style. This server wraps it: it applies faults,
//! and records what the store ignores (the ACL header, the content type, how many writes of one object were under
//! way at once, and whether an object went back to an older state; see [`super::activity`]).
//!
//! The store has no versions. It refuses requests for them after it checked the signature; the wrapper then answers
//! from its own [record](self::versions).

mod objects;
mod versions;

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::Value;

use super::activity::PutRecord;
use super::fault::{Call, Fault, Side};
use super::wire::{Body, Broken, Handler, collect, full};
use super::world::World;
use crate::core::model::WallTime;
use crate::spaces::{Versioning, plain_etag};

pub use self::objects::Objects;

const OBJECT_LIMIT: usize = 64 << 20;
/// Versions in one answer of a listing: few, so that clients must come again.
const LISTED: usize = 3;

/// Takes the keys that the world takes at this moment.
struct Keys(World);

impl S3Auth for Keys {
    fn get_secret_key<'s, 'k, 'f>(
        &'s self,
        access_key: &'k str,
    ) -> Pin<Box<dyn Future<Output = s3s::S3Result<SecretKey>> + Send + 'f>>
    where
        's: 'f,
        'k: 'f,
        Self: 'f,
    {
        let secret = self.0.lock().keys.get(access_key).cloned();
        let verdict = secret.map(SecretKey::from).ok_or_else(|| s3s::s3_error!(InvalidAccessKeyId));
        Box::pin(std::future::ready(verdict))
    }
}

/// The wrapper around the store.
struct Spaces {
    world: World,
    objects: Objects,
    store: S3Service,
}

/// Opens the store in `folder` with this one bucket.
pub(crate) fn open(world: World, folder: &Path, bucket: &str) -> io::Result<(Handler, Objects)> {
    std::fs::create_dir_all(folder.join(bucket))?;
    let files = FileSystem::new(folder).map_err(|e| io::Error::other(format!("{e:?}")))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(Keys(world.clone()));
    let objects = Objects::new(folder, bucket);
    let face = Arc::new(Spaces { world, objects: objects.clone(), store: builder.build() });
    let handler: Handler = Arc::new(move |request| {
        let face = face.clone();
        Box::pin(async move { face.answer(request).await })
    });
    Ok((handler, objects))
}

/// Marks a write as under way for as long as it lives.
struct UnderWay<'a>(&'a World, &'a str);

impl<'a> UnderWay<'a> {
    fn begin(world: &'a World, key: &'a str) -> Self {
        world.lock().activity.put_begins(key);
        UnderWay(world, key)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().activity.put_ends(self.1);
    }
}

impl Spaces {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let _inside = self.world.enter(Side::Spaces);
        let (key, call) = self.classify(&request);
        let method = request.method().as_str().to_owned();
        let page = key.split('/').nth(3).map(str::to_owned);
        let page = page.as_deref().filter(|_| key.starts_with("users/"));
        let struck = self.world.strike(call, page);
        let note = |outcome: &str| self.world.note(call, &method, &format!("/{key}"), page, outcome);
        let _under_way = (call == Call::Put).then(|| UnderWay::begin(&self.world, &key));
        if struck.contains(&Fault::SpacesSlow) {
            let latency = self.world.lock().latency;
            tokio::time::sleep(latency).await;
        }
        for fault in &struck {
            let Some(stead) = before(*fault) else { continue };
            note(&fault.to_string());
            return match stead {
                Stead::Hang => std::future::pending().await,
                Stead::Break => Err(Broken),
                Stead::MidBody => {
                    // Some of the body is taken, so that the client is in the midst of sending.
                    let _ = request.into_body().frame().await;
                    Err(Broken)
                }
                Stead::Answer(answer) => {
                    // Unread bytes would turn the close into a reset and swallow the answer.
                    let _ = collect(request.into_body(), OBJECT_LIMIT).await;
                    Ok(answer)
                }
            };
        }
        let answer = self.store(request, &key, call).await?;
        let status = answer.status().as_u16();
        if struck.contains(&Fault::SpacesLostAnswer) {
            note(&Fault::SpacesLostAnswer.to_string());
            return Err(Broken);
        }
        note(&if status < 300 { "ok".to_owned() } else { format!("status {status}") });
        Ok(answer)
    }

    fn classify(&self, request: &Request<Incoming>) -> (String, Call) {
        let path = request.uri().path().trim_start_matches('/');
        let key = path.split_once('/').filter(|(bucket, _)| *bucket == self.objects.bucket).map_or("", |(_, key)| key);
        let call = match request.method().as_str() {
            _ if key.is_empty() => Call::Bucket,
            "PUT" => Call::Put,
            "GET" => Call::Get,
            "HEAD" => Call::Head,
            "DELETE" => Call::Delete,
            _ => Call::Bucket,
        };
        (key.to_owned(), call)
    }

    /// Asks the store, and notes what a write looked like.
    async fn store(&self, request: Request<Incoming>, key: &str, call: Call) -> Result<Response<Body>, Broken> {
        let (head, body) = request.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (acl, content_type) = (header("x-amz-acl"), header("content-type"));
        let content_md5 = header("content-md5").is_some();
        let Some(bytes) = collect(body, OBJECT_LIMIT).await else { return Err(Broken) };
        if matches!(call, Call::Get | Call::Head) {
            self.objects.notice_hands(key);
        }
        let query = Query::of(&head.uri);
        if self.objects.lock().is_kept() && !key.is_empty() {
            let standing = self.objects.get(key);
            self.objects.lock().notice(key, standing);
        }
        let request = Request::from_parts(head, s3s::Body::from(bytes.clone()));
        let (mut head, body) = self.store.call(request).await.map_err(|_| Broken)?.into_parts();
        if let Some(answer) = self.about_versions(call, &query, head.status.as_u16()) {
            return Ok(answer);
        }
        if call == Call::Bucket && query.list {
            let text = body.collect().await.map_err(|_| Broken)?.to_bytes();
            let tagged = self.tagged(&String::from_utf8_lossy(&text));
            return Ok(xml(head.status.as_u16(), "application/xml", tagged));
        }
        let status = head.status.as_u16();
        self.keep_versions(key, call, &query, &bytes, &mut head);
        let mut inner = self.world.lock();
        let inner = &mut *inner;
        if call == Call::Put {
            let (at, key, length) = (WallTime::now(), key.to_owned(), bytes.len());
            inner.activity.put_done(PutRecord { at, key, acl, content_type, content_md5, bytes: length, status });
        }
        if call == Call::Put && status == 200 {
            let data: Option<Value> = serde_json::from_slice(&bytes).ok();
            let node = data.as_ref().and_then(|d| d["data"][0].as_object());
            let page = node.and_then(|n| n.get("id")?.as_str()).and_then(|id| inner.state.pages.get(id));
            if let (Some(node), Some(page)) = (node, page) {
                let revisions = page.revisions_of(node);
                inner.activity.put_matches(key, &revisions);
                inner.activity.stored(page.id(), &revisions);
            }
        }
        if call == Call::Delete && status < 300 {
            inner.activity.deleted(key);
        }
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}

/// What of a request's query is about versions and lists.
#[derive(Debug, Default)]
struct Query {
    versioning: bool,
    versions: bool,
    /// It asks for a list of objects.
    list: bool,
    prefix: String,
    version: Option<String>,
}

impl Query {
    fn of(uri: &http::Uri) -> Query {
        let mut query = Query::default();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "versioning" => query.versioning = true,
                "versions" => query.versions = true,
                "list-type" => query.list = true,
                "prefix" => query.prefix = value.into_owned(),
                "versionId" => query.version = Some(value.into_owned()),
                _ => {}
            }
        }
        query
    }
}

impl Spaces {
    /// The answer to a question that the store took for genuine and knows nothing of.
    fn about_versions(&self, call: Call, query: &Query, status: u16) -> Option<Response<Body>> {
        if call != Call::Bucket || !(query.versioning || query.versions) || status != 501 {
            return None;
        }
        let versions = self.objects.lock();
        if versions.versioning() == Versioning::Untold {
            let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code></Error>";
            return Some(xml(403, "application/xml", text.to_owned()));
        }
        let document =
            if query.versioning { versions.status_document() } else { versions.list_document(&query.prefix, LISTED) };
        Some(xml(200, "application/xml", document))
    }

    /// A list of objects with their entity tags, which the store leaves out.
    fn tagged(&self, list: &str) -> String {
        let mut tagged = String::with_capacity(list.len());
        for piece in list.split_inclusive("</Key>") {
            tagged.push_str(piece);
            let key = piece.strip_suffix("</Key>").and_then(|piece| piece.rsplit_once("<Key>"));
            if let Some(body) = key.and_then(|(_, key)| self.objects.get(key)) {
                tagged.push_str(&format!("<ETag>&quot;{}&quot;</ETag>", plain_etag(&body)));
            }
        }
        tagged
    }

    /// Remembers what a put or a delete that the store carried out means for the object's versions.
    fn keep_versions(&self, key: &str, call: Call, query: &Query, bytes: &Bytes, head: &mut http::response::Parts) {
        let mut versions = self.objects.lock();
        if !versions.is_kept() || !head.status.is_success() {
            return;
        }
        let made = match (call, &query.version) {
            (Call::Put, _) => versions.add(key, Some(bytes.clone())),
            (Call::Delete, None) => {
                head.headers.insert("x-amz-delete-marker", http::HeaderValue::from_static("true"));
                versions.add(key, None)
            }
            (Call::Delete, Some(id)) => {
                let now = versions.remove(key, id);
                drop(versions);
                self.objects.uncover(key, now);
                id.clone()
            }
            _ => return,
        };
        if let Ok(id) = http::HeaderValue::from_str(&made) {
            head.headers.insert("x-amz-version-id", id);
        }
    }
}

/// What happens in the store's stead.
enum Stead {
    Hang,
    Break,
    MidBody,
    Answer(Response<Body>),
}

fn before(fault: Fault) -> Option<Stead> {
    let refusal = |status: u16, code: &str, message: &str| {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message>\
             <RequestId>tx000000000000000000001</RequestId><HostId>sandbox</HostId></Error>"
        );
        xml(status, "application/xml", text)
    };
    Some(Stead::Answer(match fault {
        Fault::SpacesHang => return Some(Stead::Hang),
        Fault::SpacesReset => return Some(Stead::Break),
        Fault::SpacesResetMidBody => return Some(Stead::MidBody),
        Fault::SpacesSlowDown => refusal(503, "SlowDown", ""),
        Fault::SpacesBadGateway => xml(502, "text/html", "<html><body><h1>502 Bad Gateway</h1></body></html>".into()),
        Fault::SpacesWrongSignature => refusal(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
        ),
        Fault::SpacesQuota => refusal(403, "QuotaExceeded", ""),
        Fault::SpacesSkewed => refusal(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ),
        Fault::SpacesNoBucket => refusal(404, "NoSuchBucket", "The specified bucket does not exist."),
        _ => return None,
    }))
}

fn xml(status: u16, content_type: &'static str, text: String) -> Response<Body> {
    let mut answer = Response::new(full(Bytes::from(text)));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
    answer
}
