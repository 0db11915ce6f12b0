//! A bucket in memory that keeps the same promises, with scripted failures, for tests of the uploader.
//!
//! Failures are scripted, never random. A request meets, in this order: the gate ([`MemoryStore::hold`]), the scripted
//! failure for its operation, the outage, and then the bucket. The store also watches its callers:
//! [`MemoryStore::most_puts_at_once`] reports whether one key was ever written twice at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{
    CONTENT_TYPE, Erased, Head, Listing, MAX_OBJECT_BYTES, ObjectStore, PutDone, SpacesError, SpacesErrorKind,
    Versioning, plain_etag,
};
use crate::core::model::{LinkKey, ObjectKey};

/// One failure to come.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Refused before anything happened.
    Refused(SpacesErrorKind),
    /// Performed, and the answer lost on the way back.
    AnswerLost,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectKey, Bytes>,
    versioning: Option<Versioning>,
    /// Versions and markers of each key, where they are kept.
    versions: BTreeMap<ObjectKey, usize>,
    faults: HashMap<&'static str, VecDeque<Fault>>,
    outage: Option<SpacesErrorKind>,
    calls: Vec<(&'static str, ObjectKey)>,
    putting: HashMap<ObjectKey, usize>,
    most_puts_at_once: usize,
}

impl State {
    fn versioning(&self) -> Versioning {
        self.versioning.unwrap_or(Versioning::Never)
    }

    /// A bucket that does not say so keeps versions all the same.
    fn keep_version(&mut self, key: &ObjectKey) {
        if matches!(self.versioning(), Versioning::On | Versioning::Untold) {
            *self.versions.entry(key.clone()).or_default() += 1;
        }
    }

    fn erase(&mut self, key: &ObjectKey) -> Erased {
        self.objects.remove(key);
        if self.versioning() == Versioning::Untold {
            self.keep_version(key);
            return Erased::PerhapsNotVersions;
        }
        self.versions.remove(key);
        Erased::Whole
    }
}

/// The bucket. Clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    open: Arc<watch::Sender<bool>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty bucket where everything succeeds.
    pub fn new() -> Self {
        MemoryStore { state: Arc::default(), open: Arc::new(watch::Sender::new(true)) }
    }

    /// The next request of `op` (`put`, `head`, `get`, `delete`) without an order yet is refused with `kind`.
    pub fn fail_next(&self, op: &'static str, kind: SpacesErrorKind) {
        self.lock().faults.entry(op).or_default().push_back(Fault::Refused(kind));
    }

    /// The next request of `op` without an order yet is performed, and answered as if it had timed out.
    pub fn lose_next_answer(&self, op: &'static str) {
        self.lock().faults.entry(op).or_default().push_back(Fault::AnswerLost);
    }

    /// Refuses every request with `kind` from here on; `None` ends it.
    pub fn set_outage(&self, kind: Option<SpacesErrorKind>) {
        self.lock().outage = kind;
    }

    /// Requests that arrive from here on wait until [`MemoryStore::release`].
    pub fn hold(&self) {
        self.open.send_replace(false);
    }

    /// Lets waiting requests go on.
    pub fn release(&self) {
        self.open.send_replace(true);
    }

    /// The bytes under a key.
    pub fn object(&self, key: &ObjectKey) -> Option<Bytes> {
        self.lock().objects.get(key).cloned()
    }

    /// Every object.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Bytes> {
        self.lock().objects.clone()
    }

    /// Puts an object there, or takes it away, behind everyone's back.
    pub fn tamper(&self, key: &ObjectKey, body: Option<Bytes>) {
        let mut state = self.lock();
        match body {
            Some(body) => state.objects.insert(key.clone(), body),
            None => state.objects.remove(key),
        };
    }

    /// From here on the bucket keeps versions, or not, or does not say.
    pub fn set_versioning(&self, versioning: Versioning) {
        self.lock().versioning = Some(versioning);
    }

    /// How many versions and markers are kept of a key.
    pub fn versions(&self, key: &ObjectKey) -> usize {
        self.lock().versions.get(key).copied().unwrap_or_default()
    }

    /// Every request so far in the order of arrival, those that failed or still wait included.
    pub fn calls(&self) -> Vec<(&'static str, ObjectKey)> {
        self.lock().calls.clone()
    }

    /// The most puts of one key that were ever under way at the same time.
    pub fn most_puts_at_once(&self) -> usize {
        self.lock().most_puts_at_once
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform<T>(
        &self,
        op: &'static str,
        key: &ObjectKey,
        work: impl FnOnce(&mut State) -> T,
    ) -> Result<T, SpacesError> {
        self.lock().calls.push((op, key.clone()));
        // The sender lives as long as self, so the wait ends by the gate opening alone.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        let mut state = self.lock();
        let fault = state.faults.get_mut(op).and_then(VecDeque::pop_front);
        let fault = fault.or_else(|| state.outage.map(Fault::Refused));
        match fault {
            Some(Fault::Refused(kind)) => Err(SpacesError::of(op, kind)),
            Some(Fault::AnswerLost) => {
                work(&mut state);
                Err(SpacesError::timed_out(op))
            }
            None => Ok(work(&mut state)),
        }
    }
}

/// A put under way; dropped also when its future is abandoned.
struct Putting<'a> {
    store: &'a MemoryStore,
    key: &'a ObjectKey,
}

impl<'a> Putting<'a> {
    fn begin(store: &'a MemoryStore, key: &'a ObjectKey) -> Self {
        let mut state = store.lock();
        let count = state.putting.entry(key.clone()).or_default();
        *count += 1;
        let count = *count;
        state.most_puts_at_once = state.most_puts_at_once.max(count);
        Putting { store, key }
    }
}

impl Drop for Putting<'_> {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        if let Some(count) = state.putting.get_mut(self.key) {
            *count = count.saturating_sub(1);
        }
    }
}

impl ObjectStore for MemoryStore {
    fn put<'a>(&'a self, key: &'a ObjectKey, body: Bytes) -> BoxFuture<'a, Result<PutDone, SpacesError>> {
        Box::pin(async move {
            let _putting = Putting::begin(self, key);
            let etag = plain_etag(&body);
            let keep = |state: &mut State| {
                state.keep_version(key);
                state.objects.insert(key.clone(), body);
            };
            self.perform("put", key, keep).await?;
            Ok(PutDone { etag })
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Head>, SpacesError>> {
        Box::pin(async move {
            let body = self.perform("head", key, |state| state.objects.get(key).cloned()).await?;
            Ok(body.map(|body| Head {
                etag: plain_etag(&body),
                content_length: body.len() as u64,
                content_type: Some(CONTENT_TYPE.to_owned()),
            }))
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Option<Bytes>, SpacesError>> {
        Box::pin(async move {
            let body = self.perform("get", key, |state| state.objects.get(key).cloned()).await?;
            if body.as_ref().is_some_and(|body| body.len() > MAX_OBJECT_BYTES) {
                let text = format!("the object is larger than {MAX_OBJECT_BYTES} bytes");
                return Err(SpacesError::new("get", SpacesErrorKind::Corrupt, text));
            }
            Ok(body)
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), SpacesError>> {
        Box::pin(async move {
            let mark = |state: &mut State| {
                state.keep_version(key);
                state.objects.remove(key);
            };
            self.perform("delete", key, mark).await
        })
    }

    fn erase<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Erased, SpacesError>> {
        Box::pin(async move { self.perform("delete", key, |state| state.erase(key)).await })
    }

    /// Two at a time, so that lists have several pieces.
    fn list<'a>(&'a self, link: &'a LinkKey, after: Option<&'a str>) -> BoxFuture<'a, Result<Listing, SpacesError>> {
        Box::pin(async move {
            let (prefix, behind) = (ObjectKey::prefix(link), after.unwrap_or_default());
            let found = |state: &mut State| {
                let names = state.objects.iter().filter(|(key, _)| key.as_str().starts_with(&prefix));
                let mut names = names.filter(|(key, _)| key.as_str() > behind);
                let objects: Vec<_> =
                    names.by_ref().take(2).map(|(key, body)| (key.clone(), Some(plain_etag(body)))).collect();
                let last = objects.last().map(|(key, _)| key.as_str().to_owned());
                Listing { objects, next: last.filter(|_| names.next().is_some()) }
            };
            self.perform("list", &link.object_key(), found).await
        })
    }

    fn versioning<'a>(&'a self) -> BoxFuture<'a, Result<Versioning, SpacesError>> {
        Box::pin(async move { Ok(self.lock().versioning()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> ObjectKey {
        ObjectKey::scratch(uuid::Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn failures_come_in_the_order_they_were_ordered() {
        let store = MemoryStore::new();
        store.fail_next("put", SpacesErrorKind::SlowDown);
        store.lose_next_answer("put");
        let body = Bytes::from_static(b"{}");
        assert_eq!(store.put(&key(1), body.clone()).await.unwrap_err().kind, SpacesErrorKind::SlowDown);
        assert_eq!(store.object(&key(1)), None);
        assert_eq!(store.put(&key(1), body.clone()).await.unwrap_err().kind, SpacesErrorKind::Busy);
        assert_eq!(store.object(&key(1)), Some(body.clone()), "only the answer was lost");
        store.set_outage(Some(SpacesErrorKind::Clock));
        assert_eq!(store.delete(&key(1)).await.unwrap_err().kind, SpacesErrorKind::Clock);
        store.set_outage(None);
        store.delete(&key(1)).await.unwrap();
        assert_eq!(store.calls().len(), 4);
    }

    #[tokio::test]
    async fn held_requests_wait_and_are_counted() {
        let store = MemoryStore::new();
        let key = key(1);
        store.hold();
        let mut one = store.put(&key, Bytes::new());
        let mut two = store.put(&key, Bytes::new());
        assert!(futures_util::poll!(&mut one).is_pending());
        assert!(futures_util::poll!(&mut two).is_pending());
        drop(two);
        store.release();
        one.await.unwrap();
        assert_eq!(store.most_puts_at_once(), 2);
        store.put(&key, Bytes::new()).await.unwrap();
        assert_eq!(store.most_puts_at_once(), 2, "an abandoned put no longer counts");
    }
}
