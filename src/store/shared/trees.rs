//! The trees in the table `records` of a database: one value, the records of a tree in pages, and the write of a batch.
//!
//! Statements are sent with their types and without names, so that a pooler between here and the database may hand each
//! transaction to another connection. All calls block: they are made on threads that may.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::connect::Connected;

use crate::store::handle::Fault;
use crate::store::tree::{Record, Tree, Write};

/// Records that are read at a time.
const PAGE: i64 = 2000;

const GET: &str = "select value from records where tree = $1 and key = $2";
const FROM: &str = "select key, value from records where tree = $1 and key >= $2 order by key limit $3";
const BEHIND: &str = "select key, value from records where tree = $1 and key > $2 order by key limit $3";
pub(super) const SIZE: &str = "select pg_total_relation_size('records') + pg_total_relation_size('changes')";
const PUT: &str = "insert into records (tree, key, value) select * from unnest($1::smallint[], $2::bytea[], $3::bytea[]) \
                   on conflict (tree, key) do update set value = excluded.value";
const REMOVE: &str = "delete from records using unnest($1::smallint[], $2::bytea[]) as gone (tree, key) \
                      where records.tree = gone.tree and records.key = gone.key";

/// The database answers a statement within this, or counts as away. It ends one after five seconds itself, where it can.
pub(super) const ANSWER: Duration = Duration::from_secs(8);

/// A value of a statement, with its type.
pub(in crate::store) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// The trees, over one connection.
pub(in crate::store) struct Trees {
    connected: Arc<Connected>,
    runtime: Handle,
    answer: Duration,
}

impl Trees {
    /// Over this connection, which this runtime drives. Each answer is waited for so long.
    pub(in crate::store) fn new(connected: Arc<Connected>, runtime: Handle, answer: Duration) -> Trees {
        Trees { connected, runtime, answer }
    }

    fn ask(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let answer = self.connected.client.query_typed(statement, values);
        let answer = async { tokio::time::timeout(self.answer, answer).await };
        match self.runtime.block_on(answer) {
            Ok(answer) => answer.map_err(fault),
            Err(_) => Err(Fault::Disk("the database does not answer".into())),
        }
    }

    /// One value.
    pub(in crate::store) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let tree = tree as i16;
        let values: [Value<'_>; 2] = [(&tree, Type::INT2), (&key, Type::BYTEA)];
        let rows = self.ask(GET, &values)?;
        rows.first().map(|row| row.try_get(0)).transpose().map_err(fault)
    }

    /// The records of a tree from this key on, in the order of the keys.
    pub(in crate::store) fn records_from(&self, tree: Tree, key: &[u8]) -> Records<'_> {
        Records { trees: self, tree, next: Some((FROM, key.to_vec())), page: Vec::new().into_iter() }
    }

    /// Bytes that the tables take.
    pub(in crate::store) fn size_on_disk(&self) -> Option<u64> {
        let rows = self.ask(SIZE, &[]).ok()?;
        rows.first()?.try_get::<_, i64>(0).ok()?.try_into().ok()
    }

    fn page(&self, statement: &str, tree: Tree, key: &[u8]) -> Result<Vec<Record>, Fault> {
        let tree = tree as i16;
        let values: [Value<'_>; 3] = [(&tree, Type::INT2), (&key, Type::BYTEA), (&PAGE, Type::INT8)];
        let rows = self.ask(statement, &values)?;
        rows.iter().map(|row| Ok((row.try_get(0).map_err(fault)?, row.try_get(1).map_err(fault)?))).collect()
    }
}

/// The records of a tree, page by page.
pub(in crate::store) struct Records<'a> {
    trees: &'a Trees,
    tree: Tree,
    /// How the next page is asked for; `None` behind the last one.
    next: Option<(&'static str, Vec<u8>)>,
    page: std::vec::IntoIter<Record>,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(record) = self.page.next() {
            return Some(Ok(record));
        }
        let (statement, key) = self.next.take()?;
        match self.trees.page(statement, self.tree, &key) {
            Ok(page) => {
                let is_last = (page.len() as i64) < PAGE;
                self.next = page.last().filter(|_| !is_last).map(|(key, _)| (BEHIND, key.clone()));
                self.page = page.into_iter();
                self.page.next().map(Ok)
            }
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// What the database or the way to it refused. Nothing of it is damage: the same may work the next time.
pub(super) fn fault(error: Error) -> Fault {
    Fault::Disk(said(&error))
}

/// What the database said, without the values of the statement.
pub(super) fn said(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("the database says: {} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

/// The newest write of each record: a statement may meet a record once.
fn newest<'a>(writes: impl Iterator<Item = &'a Write>) -> Vec<&'a Write> {
    let mut newest: Vec<&Write> = Vec::new();
    let mut places: HashMap<(Tree, &[u8]), usize> = HashMap::new();
    for write in writes {
        match places.entry((write.tree, &write.key)) {
            Entry::Occupied(place) => newest[*place.get()] = write,
            Entry::Vacant(place) => {
                place.insert(newest.len());
                newest.push(write);
            }
        }
    }
    newest
}

/// Sends the writes of a transaction, in two statements.
///
/// # Errors
/// The first of the two that the database refused.
pub(in crate::store) async fn write<'a>(client: &Client, writes: impl Iterator<Item = &'a Write>) -> Result<(), Error> {
    let writes = newest(writes);
    let (mut trees, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut gone_trees, mut gone_keys) = (Vec::new(), Vec::new());
    for Write { tree, key, value } in writes {
        match value {
            Some(value) => {
                trees.push(*tree as i16);
                keys.push(key.as_slice());
                values.push(value.as_slice());
            }
            None => {
                gone_trees.push(*tree as i16);
                gone_keys.push(key.as_slice());
            }
        }
    }
    let put = async {
        if trees.is_empty() {
            return Ok(());
        }
        let values: [Value<'_>; 3] =
            [(&trees, Type::INT2_ARRAY), (&keys, Type::BYTEA_ARRAY), (&values, Type::BYTEA_ARRAY)];
        client.execute_typed(PUT, &values).await.map(drop)
    };
    let remove = async {
        if gone_trees.is_empty() {
            return Ok(());
        }
        let values: [Value<'_>; 2] = [(&gone_trees, Type::INT2_ARRAY), (&gone_keys, Type::BYTEA_ARRAY)];
        client.execute_typed(REMOVE, &values).await.map(drop)
    };
    let (put, remove) = tokio::join!(put, remove);
    put.and(remove)
}

/// A number of a row. The database keeps no negative ones.
pub(in crate::store) fn number_in(row: Option<&Row>, column: usize) -> Result<u64, String> {
    let row = row.ok_or("it has no such row")?;
    row.try_get::<_, i64>(column).map(|number| number as u64).map_err(|error| said(&error))
}
