//! Older versions of objects, as a bucket with versioning keeps them.
//!
//! The store has none. So they are kept here, in memory: the content of each put, and a marker for each delete. When
//! the newest version is deleted by its id, the one before it is written back into the store.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::spaces::Versioning;

/// A version of an object, or a marker that it was deleted.
#[derive(Debug, Clone)]
struct Kept {
    id: String,
    body: Option<Bytes>,
}

/// Every object's versions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Versions {
    versioning: Option<Versioning>,
    made: u64,
    kept: BTreeMap<String, Vec<Kept>>,
}

impl Versions {
    pub(super) fn versioning(&self) -> Versioning {
        self.versioning.unwrap_or(Versioning::Never)
    }

    pub(super) fn set_versioning(&mut self, versioning: Versioning) {
        self.versioning = Some(versioning);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.versioning() != Versioning::Never
    }

    /// The ids of a key's versions and markers.
    pub(super) fn ids(&self, key: &str) -> Vec<String> {
        self.kept.get(key).into_iter().flatten().map(|kept| kept.id.clone()).collect()
    }

    /// Every key of which something is kept.
    pub(super) fn keys(&self) -> Vec<String> {
        self.kept.keys().cloned().collect()
    }

    /// An object from before versions were kept is the version `null`.
    pub(super) fn notice(&mut self, key: &str, body: Option<Vec<u8>>) {
        if let Some(body) = body.filter(|_| !self.kept.contains_key(key)) {
            self.kept.insert(key.to_owned(), vec![Kept { id: "null".into(), body: Some(body.into()) }]);
        }
    }

    /// A put, or with `None` a delete, of a key; returns the id of what it made.
    pub(super) fn add(&mut self, key: &str, body: Option<Bytes>) -> String {
        self.made += 1;
        let kept = self.kept.entry(key.to_owned()).or_default();
        let id = match self.versioning {
            Some(Versioning::Suspended) => {
                kept.retain(|kept| kept.id != "null");
                "null".to_owned()
            }
            _ => format!("v{:08x}-{}", self.made, key.len()),
        };
        kept.push(Kept { id: id.clone(), body });
        id
    }

    /// Deletes one version by its id, and returns what is the object now.
    pub(super) fn remove(&mut self, key: &str, id: &str) -> Option<Bytes> {
        let kept = self.kept.get_mut(key)?;
        kept.retain(|kept| kept.id != id);
        let now = kept.last().and_then(|kept| kept.body.clone());
        if kept.is_empty() {
            self.kept.remove(key);
        }
        now
    }

    /// The answer to GetBucketVersioning.
    pub(super) fn status_document(&self) -> String {
        let status = match self.versioning() {
            Versioning::On => "<Status>Enabled</Status>",
            Versioning::Suspended => "<Status>Suspended</Status>",
            Versioning::Never | Versioning::Untold => "",
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><VersioningConfiguration \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{status}</VersioningConfiguration>"
        )
    }

    /// The answer to ListObjectVersions: newest first for each key, in parts of so many.
    pub(super) fn list_document(&self, prefix: &str, most: usize) -> String {
        let all = self.kept.iter().filter(|(key, _)| key.starts_with(prefix));
        let all: Vec<(&String, &Kept)> =
            all.flat_map(|(key, kept)| kept.iter().rev().map(move |kept| (key, kept))).collect();
        let entry = |(key, kept): &(&String, &Kept)| {
            let kind = if kept.body.is_some() { "Version" } else { "DeleteMarker" };
            format!("<{kind}><Key>{key}</Key><VersionId>{}</VersionId></{kind}>", kept.id)
        };
        let entries: String = all.iter().take(most).map(entry).collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListVersionsResult \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Prefix>{prefix}</Prefix><MaxKeys>{most}</MaxKeys>\
             <IsTruncated>{}</IsTruncated>{entries}</ListVersionsResult>",
            all.len() > most
        )
    }
}
