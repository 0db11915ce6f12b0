//! The database's side of a move: a session, the transactions that lock the row of `meta`, and what is asked in them.
//!
//! Calls block; the connection has a runtime of its own. So they are made on threads that may block.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Row};

use super::errors::MoveError;
use super::progress::Sizes;
use crate::store::check;
use crate::store::engine::Engine;
use crate::store::move_note::{KEY, Note};
use crate::store::seal::Keyring;
use crate::store::shared::connect::{Connected, Role, begin, connect};
use crate::store::shared::errors::ConnectError;
use crate::store::shared::schema;
use crate::store::shared::settings::Settings;
use crate::store::shared::trees::{self, Trees, Value};
use crate::store::tree::{Tree, Write};

/// A page of records is there within this, or the database counts as away.
const ANSWER: Duration = Duration::from_secs(300);

const LOCK: &str = "select head, number from meta for update";
const ALIVE: &str = "select name from daemons where alive and until > clock_timestamp() order by id limit 1";
const SIZES: &str = "select tree, count(*) from records where not (tree = $1 and key = $2) group by tree";
const LAST: &str = "select key from records where tree = $1 order by key desc limit 1";
const CLEAR: &str = "delete from records; delete from changes; update meta set bucket = null";
const CLOSE: &str = "update meta set head = head + 1";
const RISE: &str = "update meta set number = greatest(number, $1)";

/// A session with the database.
pub(super) struct Database {
    settings: Settings,
    session: Arc<Connected>,
    // Drives the session, so that it goes last.
    runtime: Runtime,
}

/// The row of `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub version: u64,
    pub number: u64,
}

impl Database {
    /// Connects.
    pub(super) fn connect(settings: &Settings) -> Result<Database, MoveError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("store-move").enable_all().build();
        let runtime = runtime.map_err(|error| MoveError::Broken { detail: error.to_string() })?;
        let session = runtime.block_on(connect(settings, Role::Admin))?;
        Ok(Database { settings: settings.clone(), session: Arc::new(session), runtime })
    }

    /// Hosts, ports and database.
    pub(super) fn place(&self) -> String {
        self.settings.url().place().to_owned()
    }

    /// Makes the tables, or brings them forward.
    pub(super) fn prepare(&self) -> Result<(), MoveError> {
        self.runtime.block_on(schema::bring_forward(&self.settings, self.client(), false))?;
        Ok(())
    }

    /// Are there tables of a store?
    pub(super) fn has_tables(&self) -> Result<bool, MoveError> {
        Ok(self.runtime.block_on(schema::present(&self.settings, self.client()))? > 0)
    }

    /// The trees, over this session.
    pub(super) fn engine(&self) -> Engine {
        Engine::Shared(Trees::new(self.session.clone(), self.runtime.handle().clone(), ANSWER))
    }

    fn client(&self) -> &Client {
        &self.session.client
    }

    /// Waits for an answer.
    pub(super) fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, MoveError> {
        Ok(self.runtime.block_on(answer).map_err(|error| ConnectError::of(&self.settings, &error))?)
    }

    /// Carries out statements without values.
    pub(super) fn execute(&self, statements: &str) -> Result<(), MoveError> {
        self.wait(self.client().batch_execute(statements))
    }

    /// Asks something.
    pub(super) fn ask(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, MoveError> {
        self.wait(self.client().query_typed(statement, values))
    }

    /// Carries out `steps` in one transaction that no daemon's turn overlaps. Refused while a daemon is alive.
    pub(super) fn locked<T>(&self, steps: impl FnOnce(Head) -> Result<T, MoveError>) -> Result<T, MoveError> {
        self.execute(begin(Role::Admin))?;
        let outcome = self.lock().and_then(steps);
        match outcome {
            Ok(done) => self.execute("commit").map(|()| done),
            Err(error) => {
                // The first error is the one that counts.
                let _ = self.execute("rollback");
                Err(error)
            }
        }
    }

    fn lock(&self) -> Result<Head, MoveError> {
        let row = self.ask(LOCK, &[])?;
        let number = |column| trees::number_in(row.first(), column).map_err(|detail| MoveError::Broken { detail });
        let head = Head { version: number(0)?, number: number(1)? };
        match self.ask(ALIVE, &[])?.first() {
            Some(row) => Err(MoveError::DaemonAlive { node: self.value(row, 0)?, place: self.place() }),
            None => Ok(head),
        }
    }

    /// Writes records, in a transaction of their own or in the one that is under way.
    pub(super) fn write(&self, writes: &[Write]) -> Result<(), MoveError> {
        self.wait(trees::write(self.client(), writes.iter()))
    }

    /// Nothing is left but `meta`.
    pub(super) fn clear(&self) -> Result<(), MoveError> {
        self.execute(CLEAR)
    }

    /// Leaves a note that closes the database to daemons, those that have just read it among them.
    pub(super) fn close(&self, note: &Note) -> Result<(), MoveError> {
        self.execute(CLOSE)?;
        self.write(&[note.record()])
    }

    /// Numbers up to this one are used.
    pub(super) fn rise(&self, number: u64) -> Result<(), MoveError> {
        let number = number as i64;
        self.wait(self.client().execute_typed(RISE, &[(&number, Type::INT8)])).map(drop)
    }

    /// Its note.
    pub(super) fn note(&self) -> Result<Option<Note>, MoveError> {
        let value = self.engine().get(Tree::Meta, KEY)?;
        let note = value.map(|value| Note::of_record(&value)).transpose();
        note.map_err(|damaged| MoveError::Broken { detail: damaged.to_string() })
    }

    /// Do these keys open what lies here? `None` where nothing was sealed yet.
    pub(super) fn check_key(&self, keyring: &Keyring) -> Result<Option<()>, MoveError> {
        let Some(value) = self.engine().get(Tree::Meta, check::KEY)? else { return Ok(None) };
        let other = || ConnectError::OtherKey { place: self.place() };
        Ok(Some(check::opens(keyring, &value).then_some(()).ok_or_else(other)?))
    }

    /// The records of each tree, without the note.
    pub(super) fn sizes(&self) -> Result<Sizes, MoveError> {
        let tree = Tree::Meta as i16;
        let rows = self.ask(SIZES, &[(&tree, Type::INT2), (&KEY, Type::BYTEA)])?;
        let mut sizes = Sizes::default();
        for row in rows {
            let count = trees::number_in(Some(&row), 1).map_err(|detail| MoveError::Broken { detail })?;
            let place = usize::try_from(self.value::<i16>(&row, 0)?).ok().and_then(|tree| sizes.0.get_mut(tree));
            *place.ok_or_else(|| MoveError::DatabaseTaken { place: self.place() })? = count;
        }
        Ok(sizes)
    }

    /// The last key of a tree.
    pub(super) fn last(&self, tree: Tree) -> Result<Option<Vec<u8>>, MoveError> {
        let tree = tree as i16;
        self.ask(LAST, &[(&tree, Type::INT2)])?.first().map(|row| self.value(row, 0)).transpose()
    }

    /// A value of a row.
    pub(super) fn value<'a, T: FromSql<'a>>(&self, row: &'a Row, column: usize) -> Result<T, MoveError> {
        Ok(row.try_get(column).map_err(|error| ConnectError::of(&self.settings, &error))?)
    }
}
