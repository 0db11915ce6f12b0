//! The tables of the shared database, and the way to them from any earlier version.
//!
//! `meta` has one row: the version of the schema, the layout of the records, the newest change, the highest number
//! handed out, what tells another database ([`identity`](super::identity)) and when it became that, and the
//! [bucket](super::bucket). `records` holds the trees of the store byte for byte, `changes` the batches that daemons
//! follow, and `daemons` a row for each daemon that ever joined.
//!
//! A schema is brought forward in one transaction under an advisory lock of that transaction, so that two daemons that
//! start at the same time do it once, and a pooler in transaction mode does no harm.
//!
//! Daemons are upgraded one after another. The first one with a newer version brings the tables forward, and the others go on
//! beside it where the newer version says that its tables work with theirs (`meta.works_with`). Otherwise they stop deciding.
//!
//! The tables lie in the first schema of the user's `search_path`. They may have it to themselves only at first: what an
//! operator adds later is left alone.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::connect::{Role, begin};
use super::errors::ConnectError;
use super::settings::Settings;
use crate::store::open_error::FORMAT;

/// The schema of this program.
pub const SCHEMA: i32 = 2;
/// The earliest schema whose programs may go on beside this one. A change of the tables that they would undo or not
/// understand raises it to [`SCHEMA`].
const WORKS_WITH: i32 = 2;

/// Names the lock under which a schema is brought forward; any number that other programs do not use.
const LOCK: i64 = 0x7061_6765_7379_6e63;

/// The tables.
const TABLES: [&str; 4] = ["changes", "daemons", "meta", "records"];

/// The statements that lead from each schema to the next.
const STEPS: [&str; SCHEMA as usize] = [FIRST, BUCKET];
/// Both numbers of the schema, also where the second one has no column.
const FOUND: &str = "select schema, (to_jsonb(meta.*) ->> 'works_with')::int from meta";

const FIRST: &str = "
create table meta (
    one bool primary key default true check (one),
    schema int not null,
    format int not null,
    head bigint not null default 0,
    number bigint not null default 0,
    key_check bytea,
    system_id text,
    timeline text,
    history text,
    changed_at timestamptz,
    changed text
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

create table records (
    tree smallint not null,
    key bytea not null,
    value bytea not null,
    primary key (tree, key)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
alter table records alter column value set storage external;

create table changes (
    version bigint primary key,
    writes bytea not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
alter table changes alter column writes set storage external;

create table daemons (
    id bigint generated always as identity primary key,
    name text not null,
    born timestamptz not null default clock_timestamp(),
    until timestamptz not null,
    alive bool not null default true,
    version text not null,
    seen bigint not null default 0
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
";

/// The address of the bucket that has the objects, and the earliest schema whose programs work with the tables.
const BUCKET: &str = "alter table meta add column bucket text; alter table meta add column works_with int";

/// A schema and the one that it became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// The schema found; 0 when the database was empty.
    pub from: i32,
    /// The schema now; with a check alone, the one that there would be.
    pub to: i32,
}

/// Brings the schema of the database forward to this program's, or with `check_only` says what that would do.
///
/// # Errors
/// [`ConnectError`]: the database is another program's, a newer version's, or incomplete; the user may not create
/// tables; or the connection failed, and the schema is as it was.
pub async fn bring_forward(settings: &Settings, client: &Client, check_only: bool) -> Result<Brought, ConnectError> {
    let failed = |error: tokio_postgres::Error| ConnectError::of(settings, &error);
    client.batch_execute(begin(Role::Admin)).await.map_err(failed)?;
    let outcome = within(settings, client, check_only).await;
    let end = if outcome.is_ok() && !check_only { "commit" } else { "rollback" };
    let ended = client.batch_execute(end).await.map_err(failed);
    let brought = outcome?;
    ended.map(|()| brought)
}

async fn within(settings: &Settings, client: &Client, check_only: bool) -> Result<Brought, ConnectError> {
    let failed = |error: tokio_postgres::Error| ConnectError::of(settings, &error);
    if !check_only {
        let lock = "select pg_advisory_xact_lock($1)";
        client.query_typed(lock, &[(&LOCK, Type::INT8)]).await.map_err(failed)?;
    }
    let from = present(settings, client).await?;
    if !check_only && from < SCHEMA {
        for step in &STEPS[usize::try_from(from).unwrap_or_default()..] {
            client.batch_execute(step).await.map_err(failed)?;
        }
        let format = i32::try_from(FORMAT).unwrap_or(i32::MAX);
        let note = "insert into meta (schema, format, works_with) values ($1, $2, $3) \
                    on conflict (one) do update set schema = $1, works_with = $3";
        let numbers: [(&(dyn ToSql + Sync), Type); 3] =
            [(&SCHEMA, Type::INT4), (&format, Type::INT4), (&WORKS_WITH, Type::INT4)];
        client.execute_typed(note, &numbers).await.map_err(failed)?;
    }
    Ok(Brought { from, to: SCHEMA.max(from) })
}

/// May a program with this schema work with tables of the schema `found`, which work with `works_with` and later ones?
pub(super) fn suits(found: i32, works_with: Option<i32>) -> bool {
    works_with.unwrap_or(found).min(found) <= SCHEMA
}

/// The version of the schema that is there; 0 when there is none. It is this program's, an earlier one, or a later one that
/// this program may work with.
///
/// # Errors
/// [`ConnectError`], as for [`bring_forward`].
pub async fn present(settings: &Settings, client: &Client) -> Result<i32, ConnectError> {
    let failed = |error: tokio_postgres::Error| ConnectError::of(settings, &error);
    let tables = tables(settings, client).await?;
    let ours = "select count(*) from pg_attribute where attrelid = to_regclass(quote_ident(current_schema()) || '.meta') \
                and attname in ('one', 'schema', 'format', 'head', 'number') and not attisdropped";
    let rows = client.query_typed(ours, &[]).await.map_err(failed)?;
    let columns: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
    if columns != 5 {
        return match tables.into_iter().next() {
            Some(table) => Err(ConnectError::Foreign { table }),
            None => Ok(0),
        };
    }
    if let Some(table) = TABLES.iter().find(|table| !tables.iter().any(|found| found == *table)) {
        return Err(ConnectError::Incomplete { table: (*table).to_owned() });
    }
    let rows = client.query_typed(FOUND, &[]).await.map_err(failed)?;
    let numbers = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let found: Option<(i32, Option<i32>)> = rows.first().map(numbers).transpose().map_err(failed)?;
    match found {
        None => Err(ConnectError::Incomplete { table: "meta".to_owned() }),
        Some((found, works_with)) if suits(found, works_with) => Ok(found),
        Some((found, _)) => Err(ConnectError::Newer { found, known: SCHEMA }),
    }
}

/// The tables in the schema that new tables go to, without those of extensions.
async fn tables(settings: &Settings, client: &Client) -> Result<Vec<String>, ConnectError> {
    const LIST: &str = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                        where n.nspname = current_schema() and c.relkind in ('r', 'p', 'f', 'm') and not exists (\
                        select 1 from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and \
                        d.deptype = 'e') order by 1 limit 1000";
    let failed = |error: tokio_postgres::Error| ConnectError::of(settings, &error);
    let rows = client.query_typed(LIST, &[]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
}
