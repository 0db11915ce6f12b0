//! Opening a store in a shared database.

use std::sync::{Arc, PoisonError};

use super::committer::{self, Parts as CommitterParts};
use super::database::{Database, Loaded};
use super::errors::ConnectError;
use super::life::{self, Life};
use super::loading::Loader;
use super::memory::Memory;
use super::postgresql::PostgreSql;
use super::settings::Settings;
use crate::store::clock::Clock;
use crate::store::feed::Feed;
use crate::store::inner::{Blocking, Inner, Parts, Store};
use crate::store::leases::Leases;
use crate::store::order::Orders;
use crate::store::seal::Keyring;

impl Store {
    /// Joins the daemons that share this database, making its tables if need be, and reads it into memory. Blocks; call it
    /// before the runtime is busy or where blocking is allowed.
    ///
    /// # Errors
    /// [`ConnectError`] names what is wrong and the way out.
    pub fn open_shared(settings: Settings, keyring: Keyring) -> Result<Self, ConnectError> {
        Store::join(settings, keyring, false)
    }

    /// The same for a verb that works on the store without a daemon: it takes no lease, and the daemons keep theirs.
    ///
    /// # Errors
    /// As [`Store::open_shared`].
    pub fn visit_shared(settings: Settings, keyring: Keyring) -> Result<Self, ConnectError> {
        Store::join(settings, keyring, true)
    }

    fn join(settings: Settings, keyring: Keyring, is_visit: bool) -> Result<Self, ConnectError> {
        let (keyring, clock, feed) = (Arc::new(keyring), Clock::Process, Feed::default());
        let life = Arc::new(Life::new(is_visit, clock.clone(), settings.folder.as_deref().map(Memory::of)));
        let failed = |error: std::io::Error| ConnectError::Failed {
            place: settings.url().place().to_owned(),
            detail: format!("a thread cannot be started: {error}"),
        };
        let loader = Loader::new(settings.clone(), keyring.clone(), clock.clone()).map_err(failed)?;
        let mut database = PostgreSql::new(loader);
        let Loaded { engine, state, seen } = database.load(&life)?;
        life.note_progress(seen);
        let (orders, queue) = Orders::without_mark_log(feed.clone());
        let parts = Parts {
            dir: settings.url().place().into(),
            state,
            orders,
            engine,
            mark_log: None,
            keyring,
            feed,
            mended: None,
            clock,
            blocking: Blocking::OnThreads,
            leases: Leases::none(),
        };
        let inner = Arc::new(Inner::new(parts));
        let loader = database.loader();
        loader.follow_keys_of(&inner);
        life::begin(loader.runtime(), &life, &loader.settings, &inner);
        let parts = CommitterParts { inner: inner.clone(), database, life, queue, seen };
        let thread = committer::spawn(parts).map_err(failed)?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Store { inner })
    }
}
