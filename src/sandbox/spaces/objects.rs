//! The stored objects, as files of the folder that the S3 store keeps them in.
//!
//! The store remembers an object's ETag in a file beside the bucket. That file is removed when the object was edited by
//! hand since, so that the object does not keep its former ETag; the store then computes the ETag again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::versions::Versions;
use crate::core::model::WallTime;
use crate::spaces::Versioning;

/// The stored objects of the bucket, seen from behind.
#[derive(Debug, Clone)]
pub struct Objects {
    store: PathBuf,
    pub(super) bucket: String,
    folder: PathBuf,
    versions: Arc<Mutex<Versions>>,
}

impl Objects {
    /// The objects of this bucket, whose store is in `store`.
    pub(super) fn new(store: &Path, bucket: &str) -> Objects {
        let folder = store.join(bucket);
        Objects { store: store.to_owned(), bucket: bucket.to_owned(), folder, versions: Arc::default() }
    }

    /// The keys, sorted.
    pub fn list(&self) -> Vec<String> {
        let (mut keys, mut folders) = (Vec::new(), vec![self.folder.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(key) = path.strip_prefix(&self.folder) {
                    keys.push(key.to_string_lossy().into_owned());
                }
            }
        }
        keys.sort();
        keys
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        let plain = key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        plain.then(|| self.folder.join(key))
    }

    /// The object's bytes; `None` when there is none.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(key)?).ok()
    }

    /// When the object was written last.
    pub fn written_at(&self, key: &str) -> Option<WallTime> {
        let written = std::fs::metadata(self.path(key)?).and_then(|meta| meta.modified()).ok()?;
        let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok().map(WallTime)
    }

    /// Takes the object away behind the daemon's back. Was it there?
    pub fn delete(&self, key: &str) -> bool {
        self.path(key).is_some_and(|path| std::fs::remove_file(path).is_ok())
    }

    /// A write arrives after its sender gave up.
    pub fn land(&self, key: &str, body: &[u8]) -> bool {
        let Some(path) = self.path(key) else { return false };
        let folder = path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok());
        folder && std::fs::write(path, body).is_ok()
    }

    /// Writes other bytes over the object behind the daemon's back. Was it there?
    pub fn alter(&self, key: &str) -> bool {
        let path = self.path(key).filter(|path| path.is_file());
        let done = path.is_some_and(|path| std::fs::write(path, b"{\"somebody\":\"else wrote this\"}").is_ok());
        if done {
            // Objects written before the ETag was remembered have no such file.
            let _ = std::fs::remove_file(self.memory(key));
        }
        done
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the bucket keeps older versions, or not, or keeps them and refuses to speak of them.
    pub fn set_versioning(&self, versioning: Versioning) {
        self.lock().set_versioning(versioning);
    }

    /// The ids of the versions and deletion markers that are kept of an object.
    pub fn versions(&self, key: &str) -> Vec<String> {
        self.lock().ids(key)
    }

    /// Every key of which a version or a marker is kept.
    pub fn versioned(&self) -> Vec<String> {
        self.lock().keys()
    }

    /// The object is what an older version was, or gone.
    pub(super) fn uncover(&self, key: &str, body: Option<Bytes>) {
        let Some(path) = self.path(key) else { return };
        let done = match body {
            Some(body) => std::fs::write(path, body),
            None => std::fs::remove_file(path),
        };
        if done.is_ok() {
            // Objects written before the ETag was remembered have no such file.
            let _ = std::fs::remove_file(self.memory(key));
        }
    }

    /// Where the store remembers the object's ETag.
    fn memory(&self, key: &str) -> PathBuf {
        let (bucket, key) = (URL_SAFE_NO_PAD.encode(&self.bucket), URL_SAFE_NO_PAD.encode(key));
        self.store.join(format!(".bucket-{bucket}.object-{key}.internal.json"))
    }

    /// Drops the memory of an object that was edited by hand since.
    pub(super) fn notice_hands(&self, key: &str) {
        let written = |path: PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let (object, memory) = (self.path(key).and_then(written), written(self.memory(key)));
        if object > memory && memory.is_some() {
            // Gone already is as good.
            let _ = std::fs::remove_file(self.memory(key));
        }
    }
}
