//! A database that has become another one, and the one transaction that follows from it.
//!
//! A daemon that connects compares the [identity](super::identity) that `meta` notes with that of the server, and what it
//! knows itself, from its work or at a start from its [file](super::memory), with what it finds. Where they differ, commits
//! may be lost that were acknowledged, and nothing says which. The first daemon that sees it makes the change of history, in
//! one transaction under the lock of all turns:
//!
//! | what | why |
//! |---|---|
//! | a new history | every daemon throws its memory away and reads the database anew |
//! | all daemons are dead, all leases are a stand-in's | an earlier daemon may trust its leases and have a write under way |
//! | every link has a mark, the walks over products begin anew | each object is read again, and compared with what Spaces has |
//! | staged objects that wait are dropped, their parts marked | Spaces may have a newer object, which an old one must not replace |
//! | `head`, `number` and the numbers of daemons jump ahead | what was handed out and lost is never handed out again |
//!
//! It is done where the records lie, before anybody has them in memory: with a hundred thousand links that is one statement
//! of the server, and no decision that all daemons wait for and follow. The marks are those that a daemon makes by itself,
//! so the reads are spread as after a start.
//!
//! # Why no two daemons write one object afterwards
//!
//! A daemon of the earlier history trusts its leases for four seconds after it sent a beat that the earlier database
//! answered, and that database had ended before this one took writes. The stand-in lives longer than that from the
//! change on, and never beats. It owns every bucket, whatever owner the lost commits gave it. When its life has ended,
//! it is declared dead and its buckets pass on as those of any dead daemon do: they are read at once, and written when
//! the quiet time has ended. That they are read no earlier matters as well: until its trust ends, a daemon may
//! acknowledge a delivery by a mark that it knows of and that is lost.
//!
//! An earlier incarnation cannot be taken for one of the new history: its turns, its questions for news and its beats ask
//! for its history, and it is born again under a number that the jump has made free.
//!
//! A server that still answers under the earlier history, beside the new one, is beyond what a daemon can see. Whoever
//! promotes a standby must end the earlier primary.

use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::connect::{Connected, Role, begin};
use super::errors::ConnectError;
use super::identity::{Identity, Lineage, Naming, new_history, number_of};
use super::settings::Settings;
use super::trees::{self, Value};
use crate::core::lease::{BUCKETS, LIFE, Lease, QUIET_MARGIN, WRITE_BOUND};
use crate::core::ledger::{Mark, ObjectOp, Staged};
use crate::core::model::{Cause, LinkKey, PartKey, WallTime};
use crate::store::codec;
use crate::store::state::cluster;
use crate::store::tree::{Tree, Write, body_keys};

/// Versions and numbers jump so far: more than can have been lost.
const JUMP: i64 = 1 << 32;
/// The numbers of daemons jump so far.
const BIRTHS: i64 = 1000;
/// The name of the stand-in, for people.
const STAND_IN_NAME: &str = "(before the change)";

const NEXT_BIRTHS: &str = "select setval(pg_get_serial_sequence('daemons', 'id'), \
                           $1 + greatest((select max(id) from daemons), \
                           (select last_value from pg_sequences where schemaname = current_schema() \
                            and sequencename = 'daemons_id_seq'), 1))";
const STAND_IN: &str = "insert into daemons (name, until, version) \
                        values ($1, clock_timestamp() + $2 * interval '1 millisecond', $3) returning id";
const BURY_ALL: &str = "update daemons set alive = false where alive";
const OUTBOX: &str = "select key, value from records where tree = $1";
const LEASES: &str = "select key, value from records where tree = $1 and key >= $2 and key < $3";
const MARK_ALL: &str = "insert into records (tree, key, value) select $1, key || $2, $3 from records where tree = $4 \
                        on conflict do nothing";
const WALKS: &str = "delete from records where tree = $1";
const CHANGE: &str = "update meta set history = $1, system_id = $2, timeline = $3, changed_at = clock_timestamp(), \
                      changed = $4, head = head + $5, number = number + $5";
const NOTE: &str = "update meta set history = $1, system_id = $2, timeline = $3";

/// What a daemon knows of the database from before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub lineage: Lineage,
    /// The newest version that it has seen.
    pub seen: u64,
}

/// The row of `meta`, and the server that has it.
struct Found {
    head: u64,
    number: u64,
    stored: Option<Lineage>,
    server: Identity,
}

/// What is to be done about a database.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is the one that it was.
    Nothing,
    /// Its identity is noted for the first time, or more of it.
    Note,
    /// It has become another one, for this reason.
    Change(String),
}

impl Found {
    fn step(&self, known: Option<&Known>) -> Step {
        let Some(stored) = &self.stored else {
            // Nobody has worked with it. To a daemon that has worked with another one, that one is gone.
            let was = |known: &Known| format!("it was {}, and is a new one, {}", known.lineage.identity, self.server);
            return known.map_or(Step::Note, |known| Step::Change(was(known)));
        };
        if self.server.is_other(&stored.identity) {
            return Step::Change(format!("it was {}, and is {}", stored.identity, self.server));
        }
        let went_back = |known: &Known| {
            let (before, now) = (number_of(&known.lineage.history), number_of(&stored.history));
            let is_same = known.lineage.history == stored.history;
            if is_same { known.seen > self.head } else { before >= now }
        };
        if known.is_some_and(went_back) {
            return Step::Change(format!("it went back to an earlier state, {}", self.server));
        }
        if self.server.knows_more(&stored.identity) { Step::Note } else { Step::Nothing }
    }

    /// The number of the newest history that is known.
    fn newest(&self, known: Option<&Known>) -> u64 {
        let stored = self.stored.as_ref().map_or(0, |stored| number_of(&stored.history));
        known.map_or(stored, |known| stored.max(number_of(&known.lineage.history)))
    }
}

/// The lineage of the database that this session has reached. Where it has become another one, what follows from that is
/// done first; the reason is returned with it.
///
/// # Errors
/// [`ConnectError`]; nothing was changed then.
pub(super) async fn settle(
    settings: &Settings,
    connected: &Connected,
    known: Option<&Known>,
) -> Result<(Lineage, Option<String>), ConnectError> {
    let failed = |error: Error| ConnectError::of(settings, &error);
    let (client, naming) = (&connected.client, &connected.naming);
    if !naming.is_complete() {
        tracing::warn!(
            "store: the database does not let its user ask for its system identifier and timeline, a failover is not \
             noticed; let the user execute pg_control_system, pg_current_wal_lsn and pg_walfile_name"
        );
    }
    let found = find(settings, client, naming, false).await?;
    if let (Step::Nothing, Some(lineage)) = (found.step(known), found.stored) {
        return Ok((lineage, None));
    }
    client.batch_execute(begin(Role::Admin)).await.map_err(failed)?;
    // Another daemon may have been faster.
    let found = find(settings, client, naming, true).await?;
    let settled = match found.step(known) {
        Step::Nothing => None,
        Step::Note => {
            let history = found.stored.as_ref().map(|stored| stored.history.clone());
            let identity = found.server.clone();
            let identity = found.stored.as_ref().map_or(identity.clone(), |stored| identity.or(&stored.identity));
            let lineage = Lineage { history: history.unwrap_or_else(|| new_history(1)), identity };
            note(client, &lineage).await.map_err(failed)?;
            Some((lineage, None))
        }
        Step::Change(reason) => {
            let history = new_history(found.newest(known) + 1);
            let lineage = Lineage { history, identity: found.server.clone() };
            change(client, &found, &lineage, &reason).await.map_err(failed)?;
            Some((lineage, Some(reason)))
        }
    };
    client.batch_execute("commit").await.map_err(failed)?;
    match (settled, found.stored) {
        (Some(settled), _) => Ok(settled),
        (None, Some(lineage)) => Ok((lineage, None)),
        (None, None) => Err(broken(settings, "it has no history".into())),
    }
}

/// The reason for which a start would make the change of history; `None` where it would not. Nothing is changed.
///
/// # Errors
/// [`ConnectError`].
pub(super) async fn foresee(
    settings: &Settings,
    connected: &Connected,
    known: Option<&Known>,
) -> Result<Option<String>, ConnectError> {
    let found = find(settings, &connected.client, &connected.naming, false).await?;
    match found.step(known) {
        Step::Change(reason) => Ok(Some(reason)),
        Step::Nothing | Step::Note => Ok(None),
    }
}

fn broken(settings: &Settings, detail: String) -> ConnectError {
    ConnectError::Failed { place: settings.url().place().to_owned(), detail }
}

async fn find(settings: &Settings, client: &Client, naming: &Naming, locks: bool) -> Result<Found, ConnectError> {
    let lock = if locks { " for update" } else { "" };
    let ask = format!("select head, number, {}, concat(system_id, ' ', timeline) from meta{lock}", naming.columns());
    let rows = client.query_typed(&ask, &[]).await.map_err(|error| ConnectError::of(settings, &error))?;
    found(rows.first()).map_err(|detail| broken(settings, detail))
}

fn found(row: Option<&Row>) -> Result<Found, String> {
    let number = |column| trees::number_in(row, column);
    let text = |column| row.and_then(|row| row.try_get::<_, Option<String>>(column).ok().flatten());
    let identity = |column| text(column).as_deref().and_then(Identity::of);
    let stored = text(2).zip(identity(4)).map(|(history, identity)| Lineage { history, identity });
    let server = identity(3).ok_or("it does not say which one it is")?;
    Ok(Found { head: number(0)?, number: number(1)?, stored, server })
}

async fn note(client: &Client, lineage: &Lineage) -> Result<(), Error> {
    let (system, timeline) = lineage.identity.columns();
    let values: [Value<'_>; 3] = [(&lineage.history, Type::TEXT), (&system, Type::TEXT), (&timeline, Type::TEXT)];
    client.execute_typed(NOTE, &values).await.map(drop)
}

/// What the module head lists, in the transaction that is under way.
async fn change(client: &Client, found: &Found, lineage: &Lineage, reason: &str) -> Result<(), Error> {
    let number = found.number.saturating_add(JUMP as u64);
    client.execute_typed(BURY_ALL, &[]).await?;
    client.query_typed(NEXT_BIRTHS, &[(&BIRTHS, Type::INT8)]).await?;
    let mut writes = drop_staged(client, number).await?;
    writes.extend(hand_over_leases(client).await?);
    trees::write(client, writes.iter()).await?;
    mark_all(client, number).await?;
    let (system, timeline) = lineage.identity.columns();
    let values: [Value<'_>; 5] = [
        (&lineage.history, Type::TEXT),
        (&system, Type::TEXT),
        (&timeline, Type::TEXT),
        (&reason, Type::TEXT),
        (&JUMP, Type::INT8),
    ];
    client.execute_typed(CHANGE, &values).await.map(drop)
}

/// Marks every link with this number, and begins the walks over products anew, in the transaction that is under way.
pub(super) async fn mark_all(client: &Client, number: u64) -> Result<(), Error> {
    let (marks, links) = (Tree::Marks as i16, Tree::Links as i16);
    // As a daemon makes it by itself: the reads are spread.
    let mark = codec::encode(&Mark { seq: number, cause: Cause::Poll, since: WallTime::now() });
    let mark_all: [Value<'_>; 4] =
        [(&marks, Type::INT2), (&LinkKey::WHOLE.as_slice(), Type::BYTEA), (&mark, Type::BYTEA), (&links, Type::INT2)];
    client.execute_typed(MARK_ALL, &mark_all).await?;
    let walks = Tree::Catalogues as i16;
    client.execute_typed(WALKS, &[(&walks, Type::INT2)]).await.map(drop)
}

/// Staged objects go, and a mark with this number stands for each. Somebody may wait for them, so the marks are as urgent as
/// those of webhooks. Deletes stay: they are carried out again.
async fn drop_staged(client: &Client, number: u64) -> Result<Vec<Write>, Error> {
    let tree = Tree::Outbox as i16;
    let mut writes = Vec::new();
    for row in client.query_typed(OUTBOX, &[(&tree, Type::INT2)]).await? {
        let (key, value): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        // One that cannot be read is passed over when everything is read.
        let staged = codec::decode::<Staged>(Tree::Outbox.name(), &value).ok();
        let Some((part, staged)) = PartKey::from_bytes(&key).zip(staged) else { continue };
        if staged.op == ObjectOp::Delete {
            continue;
        }
        writes.extend(body_keys(&part, &staged).map(|key| Write { tree: Tree::Bodies, key, value: None }));
        writes.push(Write { tree: Tree::Outbox, key: key.clone(), value: None });
        let mark = Mark { seq: number, cause: Cause::Webhook, since: staged.marked_at };
        writes.push(Write { tree: Tree::Marks, key, value: Some(codec::encode(&mark)) });
    }
    Ok(writes)
}

/// Every bucket is the stand-in's.
async fn hand_over_leases(client: &Client) -> Result<Vec<Write>, Error> {
    let (life_ms, version) = (LIFE.as_millis() as i64, env!("CARGO_PKG_VERSION"));
    let born: [Value<'_>; 3] = [(&STAND_IN_NAME, Type::TEXT), (&life_ms, Type::INT8), (&version, Type::TEXT)];
    let stand_in = client.query_typed(STAND_IN, &born).await?;
    let owner = stand_in.first().map(|row| row.try_get::<_, i64>(0)).transpose()?.map(|id| id as u64);
    let (tree, first, end) = (Tree::Meta as i16, cluster::key(0), cluster::key(BUCKETS));
    let values: [Value<'_>; 3] = [(&tree, Type::INT2), (&first, Type::BYTEA), (&end, Type::BYTEA)];
    let mut leases = vec![Lease::default(); usize::from(BUCKETS)];
    for row in client.query_typed(LEASES, &values).await? {
        let (key, value): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(lease) = cluster::bucket(&key).and_then(|bucket| leases.get_mut(usize::from(bucket))) {
            *lease = codec::decode(Tree::Meta.name(), &value).unwrap_or_default();
        }
    }
    let handed_over = |(bucket, lease): (u16, Lease)| Write {
        tree: Tree::Meta,
        key: cluster::key(bucket),
        value: Some(codec::encode(&Lease { owner, epoch: lease.epoch + 1, ..lease })),
    };
    Ok((0..BUCKETS).zip(leases).map(handed_over).collect())
}

/// No object is written for so long after the change.
pub(super) const QUIET: Duration = LIFE.saturating_add(WRITE_BOUND).saturating_add(QUIET_MARGIN);

/// Says what has become of the database.
pub(super) fn report(reason: &str) {
    tracing::warn!(
        %reason,
        "store: the database has become another one ({reason}), what was committed last may be missing; every link is read \
         again, no object is written within {QUIET:?}, and objects of links that it does not know stay in the bucket"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(history: &str, identity: &str) -> Lineage {
        Lineage { history: history.to_owned(), identity: Identity::of(identity).unwrap() }
    }

    #[test]
    fn a_database_has_become_another_one_by_its_identity_or_by_what_it_lacks() {
        let (one, two) = ("7423/16384/16390 00000001", "7423/16384/16390 00000002");
        let found = |stored: Option<Lineage>, server: &str| Found {
            head: 100,
            number: 0,
            stored,
            server: Identity::of(server).unwrap(),
        };
        let known = |history: &str, seen| Known { lineage: lineage(history, one), seen };
        let step = |found: &Found, known: Option<Known>| match found.step(known.as_ref()) {
            Step::Change(reason) => reason.split(',').next().unwrap_or_default().to_owned(),
            step => format!("{step:?}"),
        };
        assert_eq!(step(&found(None, one), None), "Note");
        assert_eq!(step(&found(None, two), Some(known("2-a", 100))), "it was system 7423");
        assert_eq!(step(&found(Some(lineage("1-a", "-/16384/16390 00000001")), one), None), "Note");
        let same = found(Some(lineage("2-a", one)), one);
        assert_eq!(step(&same, None), "Nothing");
        assert_eq!(step(&same, Some(known("2-a", 100))), "Nothing");
        assert_eq!(step(&same, Some(known("1-z", 900))), "Nothing", "another daemon has made the change");
        for lost in [known("2-a", 101), known("2-b", 5), known("3-c", 5)] {
            let newest = number_of(&lost.lineage.history);
            assert_eq!(same.newest(Some(&lost)), newest);
            assert_eq!(step(&same, Some(lost)), "it went back to an earlier state");
        }
        assert_eq!(step(&found(Some(lineage("1-a", one)), two), None), "it was system 7423");
    }
}
