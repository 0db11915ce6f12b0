//! The object store: a few operations on one private bucket, and what can go wrong with them.
//!
//! The rest of the program sees [`ObjectStore`] and [`SpacesError`]. Only [`s3`] and [`exchange`] depend on Spaces and
//! on rust-s3. Keys are [`ObjectKey`]s, which cannot name anything outside their prefix, and bodies are JSON documents
//! of some kilobytes, sent whole with their length.
//!
//! What every implementation promises, and the conformance suite holds each of them to:
//!
//! - `put` answers only when the bytes are stored, whole, under that key: private, `application/json`, checked on the
//!   way. It may be repeated at will. A put whose answer got lost may have happened.
//! - `head` and `get` return the object of the last answered put, and `None` if there is none.
//! - `delete` of an absent key is a success.
//! - `erase` leaves nothing of the object, where `delete` in a bucket that keeps versions leaves all of them behind a
//!   marker; or it reports that it cannot know.
//! - Nothing is retried inside: one call is one request, bounded in time. Waiting and trying again are decided by the
//!   caller from [`SpacesErrorKind`]. Only `erase` makes several, each of them bounded, and may be repeated at will.
//!
//! Accepted: two puts of one key at the same time may land in either order. The uploader never sends two.

mod backups;
pub mod error;
mod exchange;
mod listing;
#[cfg(any(test, feature = "sandbox"))]
pub mod memory;
pub mod s3;
#[cfg(test)]
pub(crate) mod suite;
mod versions;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use self::backups::{Backups, MAX_BACKUP_BYTES};
pub use self::error::{SpacesError, SpacesErrorKind, classify};
pub use self::s3::{S3Store, SpacesSettings};
use crate::core::model::{BackupName, LinkKey, ObjectKey};
use crate::random;

/// The one content type that is stored.
pub const CONTENT_TYPE: &str = "application/json";

/// The most that [`ObjectStore::get`] reads of one object, in bytes. Objects of this daemon stay far below it.
pub const MAX_OBJECT_BYTES: usize = 4 * 1024 * 1024;

/// A put that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutDone {
    /// The object's entity tag without quotes: the MD5 of the body in hexadecimal, in general.
    pub etag: String,
}

/// The answer to a HEAD for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The entity tag without quotes, comparable with [`PutDone::etag`].
    pub etag: String,
    /// The length in bytes.
    pub content_length: u64,
    /// The content type, if the store sends one.
    pub content_type: Option<String>,
}

/// Some of the objects of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Each with its entity tag, without quotes, where the store says it.
    pub objects: Vec<(ObjectKey, Option<String>)>,
    /// The last name that was looked at, if more may follow it.
    pub next: Option<String>,
}

/// A backup in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: BackupName,
    /// Its length in bytes, where the list says it.
    pub bytes: Option<u64>,
}

/// Does the bucket keep older versions of its objects?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// It does not, and never did.
    Never,
    /// It does.
    On,
    /// It did, and keeps those.
    Suspended,
    /// It does not say: the key may not ask, or the endpoint does not know the question.
    Untold,
}

/// What [`ObjectStore::erase`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// Nothing of the object is left.
    Whole,
    /// The object is gone; whether older versions of it are kept could not be found out.
    PerhapsNotVersions,
}

/// A bucket. The futures borrow the store; share it as `Arc<dyn ObjectStore>`. Dropping a future abandons the
/// request, which may have happened by then.
pub trait ObjectStore: Send + Sync + 'static {
    /// Stores `body` under `key`, in place of what was there.
    fn put<'a>(&'a self, key: &'a ObjectKey, body: Bytes) -> BoxFuture<'a, Result<PutDone, SpacesError>>;

    /// The object's tag, length and type; `None` when there is no object.
    ///
    /// An answer to HEAD has no body, so a missing bucket cannot be distinguished from a missing object and is `None`
    /// too.
    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Head>, SpacesError>>;

    /// The object's bytes; `None` when there is no object. More than [`MAX_OBJECT_BYTES`] is an error of kind
    /// [`Corrupt`](SpacesErrorKind::Corrupt), as no object of this daemon is that large.
    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Bytes>, SpacesError>>;

    /// Removes the object. There being none is a success.
    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), SpacesError>>;

    /// Removes the object, every older version of it and every marker of a deletion. There being none is a success.
    fn erase<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Erased, SpacesError>>;

    /// Some of the objects of a link, in the order of their keys, from the one behind `after` on; none when there are no
    /// more. Names that are none of this daemon's are left out.
    fn list<'a>(&'a self, link: &'a LinkKey, after: Option<&'a str>) -> BoxFuture<'a, Result<Listing, SpacesError>>;

    /// Whether the bucket keeps older versions. What was learned is believed for some minutes.
    fn versioning<'a>(&'a self) -> BoxFuture<'a, Result<Versioning, SpacesError>>;
}

/// Puts, looks at, gets and erases a scratch object outside every user's prefix, and cleans up after itself.
///
/// # Errors
/// The first operation that failed, or [`Corrupt`](SpacesErrorKind::Corrupt) when what came back is not what was
/// sent. The scratch object is deleted in that case too, as far as the store lets it.
pub async fn probe(store: &dyn ObjectStore) -> Result<(), SpacesError> {
    let name = random::uuid();
    let key = ObjectKey::scratch(name);
    let body = Bytes::from(format!("{{\"probe\":\"{name}\"}}"));
    let done = store.put(&key, body.clone()).await?;
    let seen = read_back(store, &key, &done, &body).await;
    let gone = store.erase(&key).await.map(drop);
    seen.and(gone)
}

async fn read_back(store: &dyn ObjectStore, key: &ObjectKey, done: &PutDone, body: &Bytes) -> Result<(), SpacesError> {
    let head = store.head(key).await?;
    if head.is_none_or(|head| head.etag != done.etag || head.content_length != body.len() as u64) {
        return Err(SpacesError::new(
            "head",
            SpacesErrorKind::Corrupt,
            "the object just written is not described as it is",
        ));
    }
    if store.get(key).await?.as_ref() != Some(body) {
        return Err(SpacesError::new("get", SpacesErrorKind::Corrupt, "the object just written reads differently"));
    }
    Ok(())
}

/// The lower-case hexadecimal MD5 of `body`: the entity tag that S3 gives to a plain put.
pub fn plain_etag(body: &[u8]) -> String {
    format!("{:x}", md5::compute(body))
}
