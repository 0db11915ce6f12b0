//! Beginning with what lies in the database: the connections, the birth of this daemon in the cluster, and the memory, read
//! in one snapshot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::bucket;
use super::connect::{Connected, Role, connect};
use super::database::Loaded;
use super::errors::ConnectError;
use super::identity::Lineage;
use super::life::Life;
use super::lineage;
use super::namesake;
use super::schema;
use super::settings::Settings;
use super::standing;
use super::trees::{ANSWER, Trees, number_in};
use crate::core::lease::LIFE;
use crate::core::model::WallTime;
use crate::store::check;
use crate::store::clock::Clock;
use crate::store::engine::Engine;
use crate::store::handle::Fault;
use crate::store::inner::Inner;
use crate::store::load;
use crate::store::roster::DatabaseChange;
use crate::store::seal::Keyring;
use crate::store::state::State;
use crate::store::state::cluster;
use crate::store::tree::{Record, Tree};

const SNAPSHOT: &str = "begin isolation level repeatable read read only; set local statement_timeout = '60s'; \
                        set local idle_in_transaction_session_timeout = '60s'";
/// For each of the statements with which everything is read.
const READING: Duration = Duration::from_secs(60);
const BIRTH: &str = "insert into daemons (name, until, version, alive) \
                     values ($1, clock_timestamp() + $2 * interval '1 millisecond', $3, $4) returning id";
const LIVES: &str = "select id from daemons where id = $1 and name = $2 and alive and until > clock_timestamp()";
const NOTE_KEY: &str = "insert into records (tree, key, value) values ($1, $2, $3) on conflict do nothing";

/// Reads the store, at start and after each failure.
pub(super) struct Loader {
    pub settings: Arc<Settings>,
    /// Drives all connections. `None` once it was shut down.
    runtime: Option<Runtime>,
    keys: Keys,
    clock: Clock,
}

/// The keys that the store is sealed with.
enum Keys {
    Given(Arc<Keyring>),
    Of(Arc<Inner>),
}

/// One snapshot.
struct Read {
    state: State,
    /// Its version, and the highest number that was handed out.
    seen: u64,
    used: u64,
    leases: Vec<Record>,
    /// When the database became another one.
    change: Option<DatabaseChange>,
}

impl Loader {
    /// Connections of these settings.
    pub(super) fn new(settings: Settings, keyring: Arc<Keyring>, clock: Clock) -> std::io::Result<Loader> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_name("store-database").enable_all().build()?;
        Ok(Loader { settings: Arc::new(settings), runtime: Some(runtime), keys: Keys::Given(keyring), clock })
    }

    /// From here on the keys are those that the store has in force.
    pub(super) fn follow_keys_of(&mut self, inner: &Arc<Inner>) {
        self.keys = Keys::Of(inner.clone());
    }

    /// Where the connections are driven.
    pub(super) fn runtime(&self) -> &Handle {
        match &self.runtime {
            Some(runtime) => runtime.handle(),
            None => unreachable!("it is shut down when it is dropped"),
        }
    }

    /// Connects and reads everything. The daemon is born if it is not alive.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) fn load(&self, life: &Life) -> Result<(Connected, Loaded), ConnectError> {
        let before = life.known();
        let (connected, reader, lineage, changed) = self.runtime().block_on(async {
            let connected = connect(&self.settings, Role::Committer).await?;
            self.bring_forward(&connected.client).await?;
            let reader = connect(&self.settings, Role::Reader).await?;
            standing::is_here(&self.settings, &connected.client).await?;
            self.check_key(&connected.client).await?;
            bucket::note(&self.settings, &connected.client).await?;
            bucket::check(&self.settings, &connected.client).await?;
            let (lineage, changed) = lineage::settle(&self.settings, &connected, before.as_ref()).await?;
            Ok::<_, ConnectError>((connected, Arc::new(reader), lineage, changed))
        })?;
        changed.iter().for_each(|reason| lineage::report(reason));
        let Read { mut state, seen, used, leases, change } = self.read(&reader, &lineage)?;
        if let (Some(change), Some(known), None) = (&change, before, changed)
            && known.lineage.history != lineage.history
        {
            lineage::report(&change.reason);
        }
        let is_start = life.lineage().is_none();
        life.set_lineage(lineage);
        // Only now, because reading may take longer than a daemon lives without a beat.
        let living = self.live(&connected.client, life, is_start);
        self.runtime().block_on(living)?;
        join(&mut state, life, used, leases);
        state.restore_database_change(change);
        let engine = Engine::Shared(Trees::new(reader, self.runtime().clone(), ANSWER));
        Ok((connected, Loaded { engine, state, seen }))
    }

    async fn bring_forward(&self, client: &Client) -> Result<(), ConnectError> {
        let brought = schema::bring_forward(&self.settings, client, !self.settings.migrate).await?;
        if !self.settings.migrate && brought.from != brought.to {
            return Err(ConnectError::Behind { found: brought.from, known: brought.to });
        }
        Ok(())
    }

    fn failed(&self, error: &Error) -> ConnectError {
        ConnectError::of(&self.settings, error)
    }

    /// The words of a fault while everything is read.
    fn broken(&self, detail: String) -> ConnectError {
        ConnectError::Failed { place: self.settings.url().place().to_owned(), detail }
    }

    /// Is this the key with which the store is sealed? An empty one takes it.
    async fn check_key(&self, client: &Client) -> Result<(), ConnectError> {
        let keyring = match &self.keys {
            Keys::Given(keyring) => keyring.clone(),
            Keys::Of(inner) => inner.keyring(),
        };
        let record = check::record(&keyring);
        let (tree, value) = (record.tree as i16, record.value.unwrap_or_default());
        let noted = [(&tree as _, Type::INT2), (&record.key as _, Type::BYTEA), (&value as _, Type::BYTEA)];
        client.execute_typed(NOTE_KEY, &noted).await.map_err(|error| self.failed(&error))?;
        standing::check_key(&self.settings, client, &keyring).await
    }

    /// Makes this daemon a member, unless it is one that lives. A visit gets a number in the same way and never lives.
    async fn live(&self, client: &Client, life: &Life, is_start: bool) -> Result<(), ConnectError> {
        let failed = |error| self.failed(&error);
        let (me, name) = (life.member() as i64, self.settings.node.as_str());
        if life.is_visit() && me != 0 {
            return Ok(());
        }
        // A number of another history is not this daemon's: it was set to none by then.
        let known = [(&me as _, Type::INT8), (&name as _, Type::TEXT)];
        if !client.query_typed(LIVES, &known).await.map_err(failed)?.is_empty() {
            return Ok(());
        }
        if is_start && !life.is_visit() {
            namesake::refuse(&self.settings, client).await?;
        }
        let version = env!("CARGO_PKG_VERSION");
        let (life_ms, is_alive) = (LIFE.as_millis() as i64, !life.is_visit());
        let born = [
            (&name as _, Type::TEXT),
            (&life_ms as _, Type::INT8),
            (&version as _, Type::TEXT),
            (&is_alive as _, Type::BOOL),
        ];
        let row = client.query_typed(BIRTH, &born).await.map_err(failed)?;
        if let Some(row) = row.first() {
            life.set_member(row.try_get::<_, i64>(0).map_err(failed)? as u64);
        }
        Ok(())
    }

    /// Reads the memory in one snapshot, which must be of this lineage.
    fn read(&self, reader: &Arc<Connected>, lineage: &Lineage) -> Result<Read, ConnectError> {
        let head = format!(
            "select head, number, {}, (extract(epoch from changed_at) * 1000)::bigint, changed from meta",
            reader.naming.columns()
        );
        let begun = self.runtime().block_on(async {
            reader.client.batch_execute(SNAPSHOT).await?;
            reader.client.query_typed(&head, &[]).await
        });
        let begun = begun.map_err(|error| self.failed(&error))?;
        // The two connections may have reached two servers.
        let place = self.settings.url().place().to_owned();
        lineage.check(begun.first(), 2).map_err(|detail| ConnectError::Away { place, detail })?;
        // A move may have begun since the first look.
        self.runtime().block_on(standing::is_here(&self.settings, &reader.client))?;
        let number = |column| number_in(begun.first(), column).map_err(|detail| self.broken(detail));
        let (seen, used) = (number(0)?, number(1)?);
        let engine = Engine::Shared(Trees::new(reader.clone(), self.runtime().clone(), READING));
        let fault = |fault: Fault| self.broken(fault.to_string());
        let (state, leases) = memory(&engine, self.clock.now()).map_err(fault)?;
        self.runtime().block_on(reader.client.batch_execute("commit")).map_err(|error| self.failed(&error))?;
        let change = begun.first().and_then(database_change);
        Ok(Read { state, seen, used, leases, change })
    }
}

/// When the database became another one, and by what a daemon noticed it.
fn database_change(row: &Row) -> Option<DatabaseChange> {
    let at = row.try_get::<_, Option<i64>>(4).ok().flatten()?;
    let reason = row.try_get::<_, Option<String>>(5).ok().flatten()?;
    Some(DatabaseChange { at: WallTime(at as u64), reason })
}

/// The memory that follows from the trees, and the records of leases.
pub(super) fn memory(engine: &Engine, now: WallTime) -> Result<(State, Vec<Record>), Fault> {
    let (state, _) = load::load(engine, HashMap::new(), now)?;
    let leases = engine.records_under(Tree::Meta, cluster::PREFIX, cluster::PREFIX);
    Ok((state, leases.collect::<Result<_, _>>()?))
}

/// The memory is that of this incarnation. Numbers up to `used` were handed out.
pub(super) fn join(state: &mut State, life: &Life, used: u64, leases: Vec<Record>) {
    state.join(life.member(), used);
    state.restore_leases(leases);
}

impl Drop for Loader {
    fn drop(&mut self) {
        // It may be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
