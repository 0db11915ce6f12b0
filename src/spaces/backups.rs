//! Backups in the bucket, under `backups/`: objects of any length, which are written once and never changed. Lists of the
//! objects of a link never reach them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Erased, Listed, ObjectStore, S3Store, SpacesError, SpacesErrorKind, SpacesSettings, listing};
use crate::core::model::{BACKUPS, BackupName, ObjectKey};
use crate::metrics::Metrics;

/// The longest backup. It is in memory as a whole while it is made, sent and read.
pub const MAX_BACKUP_BYTES: usize = 512 << 20;
/// The time that a transfer of a whole backup may take.
const TRANSFER: Duration = Duration::from_secs(10 * 60);

/// The backups of a bucket.
pub struct Backups {
    /// For what has a short answer.
    quick: S3Store,
    /// For bodies.
    patient: S3Store,
}

impl Backups {
    /// Prepares the clients. Nothing is sent.
    ///
    /// # Errors
    /// No request can be made from the settings.
    pub fn new(settings: SpacesSettings, metrics: &Arc<Metrics>) -> Result<Backups, SpacesError> {
        let request_timeout = settings.request_timeout.max(TRANSFER);
        let long = SpacesSettings { request_timeout, ..settings.clone() };
        Ok(Backups {
            quick: S3Store::new(settings, metrics.clone())?,
            patient: S3Store::patient(long, metrics.clone())?,
        })
    }

    /// Every backup, the oldest first. Other objects are left out.
    ///
    /// # Errors
    /// Any of the requests.
    pub async fn list(&self) -> Result<Vec<Listed>, SpacesError> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("list-type", "2"), ("max-keys", "1000"), ("prefix", BACKUPS)];
            query.extend(after.as_deref().map(|after| ("start-after", after)));
            let document = self.quick.bounded("list", self.quick.send_question("list", &query)).await?;
            let not_understood = || SpacesError::new("list", SpacesErrorKind::Corrupt, "the list cannot be read");
            let (some, next) = listing::backups(&document).ok_or_else(not_understood)?;
            found.extend(some);
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Writes a backup, and asks for what is stored under its name then.
    ///
    /// # Errors
    /// The backup is not known to be stored.
    pub async fn put(&self, name: &BackupName, body: Bytes) -> Result<(), SpacesError> {
        let (key, length) = (ObjectKey::backup(name), body.len() as u64);
        let done = self.patient.put(&key, body).await?;
        let head = self.quick.head(&key).await?;
        if head.is_some_and(|head| head.etag == done.etag && head.content_length == length) {
            return Ok(());
        }
        let text = "the backup just written is not described as it is";
        Err(SpacesError::new("head", SpacesErrorKind::Corrupt, text))
    }

    /// The bytes of a backup; `None` when there is no such backup.
    ///
    /// # Errors
    /// The request, or an object longer than [`MAX_BACKUP_BYTES`].
    pub async fn get(&self, name: &BackupName) -> Result<Option<Bytes>, SpacesError> {
        let key = ObjectKey::backup(name);
        self.patient.bounded("get", self.patient.send_get(&key, MAX_BACKUP_BYTES)).await
    }

    /// Removes a backup with its older versions.
    ///
    /// # Errors
    /// Any of the requests.
    pub async fn erase(&self, name: &BackupName) -> Result<Erased, SpacesError> {
        self.quick.erase(&ObjectKey::backup(name)).await
    }
}
