//! The committer's session with PostgreSQL. The statements of a turn are sent together, so that a turn costs two round
//! trips.

use std::sync::Arc;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, SimpleQueryMessage, SimpleQueryRow};

use super::connect::{Connected, Role, begin};
use super::database::{Database, Loaded, News, Opened, Sent};
use super::errors::ConnectError;
use super::identity::Lineage;
use super::life::Life;
use super::loading::Loader;
use super::schema::suits;
use super::trees::{self, ANSWER, Value};
use crate::core::lease::Member;
use crate::core::model::WallTime;
use crate::store::tree::Write;

const NEWS: &str = "select version, writes from changes \
                    where version > $1 and (select history from meta) = $2 order by version";
const PUBLISH: &str = "insert into changes (version, writes) values ($1, $2)";
const EXECUTE: &str = "update daemons set alive = false \
                       where alive and id <> $1 and until < clock_timestamp() returning id";
const PRUNE: &str = "delete from changes \
                     where version <= least($1, (select min(seen) from daemons where alive), \
                     (select min(version) + 5000 from changes))";
const FORGET: &str = "delete from daemons where not alive and until < clock_timestamp() - interval '7 days'";

/// A session, and the way to the next one.
pub(super) struct PostgreSql {
    loader: Loader,
    connected: Option<Connected>,
}

impl PostgreSql {
    /// Not connected yet.
    pub(super) fn new(loader: Loader) -> PostgreSql {
        PostgreSql { loader, connected: None }
    }

    /// What connects and reads.
    pub(super) fn loader(&mut self) -> &mut Loader {
        &mut self.loader
    }

    fn connected(&self) -> Result<&Connected, String> {
        self.connected.as_ref().ok_or_else(|| "it is not connected".into())
    }

    fn client(&self) -> Result<&Client, String> {
        self.connected().map(|connected| &connected.client)
    }

    /// Waits for the database, but not for ever.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, String> {
        let answer = async { tokio::time::timeout(ANSWER, answer).await };
        match self.loader.runtime().block_on(answer) {
            Ok(answer) => answer.map_err(|error| trees::said(&error)),
            Err(_) => Err("the database does not answer".into()),
        }
    }

    /// Declares the members dead that are overdue. Returns whether there were any, and the members after it.
    fn execute(&self, me: u64) -> Result<(bool, Vec<Member>, WallTime), String> {
        let (client, id, ask) = (self.client()?, me as i64, members_of(me));
        let i_am: [Value<'_>; 1] = [(&id, Type::INT8)];
        // A member that beats at this moment either lives, or finds itself dead: the row is tested and changed in one.
        let executing = async {
            let (executed, after) = tokio::join!(client.query_typed(EXECUTE, &i_am), client.simple_query(&ask));
            Ok((executed?, after?))
        };
        let (executed, after) = self.wait(executing)?;
        let (members, now) = members(rows(&after))?;
        Ok((!executed.is_empty(), members, now))
    }
}

impl Database for PostgreSql {
    fn open_turn(&mut self, life: &Life, seen: u64) -> Result<Option<(Opened, Vec<News>)>, String> {
        let Connected { client, naming, .. } = self.connected()?;
        let lock = format!("select head, number, {}, schema, works_with from meta for update", naming.columns());
        let (me, seen, lineage) = (life.member(), seen as i64, lineage(life)?);
        let since: [Value<'_>; 2] = [(&seen, Type::INT8), (&lineage.history, Type::TEXT)];
        // One message, because each answer to a message wakes a thread here.
        let open = format!("{}; {lock}; {}", begin(Role::Committer), members_of(me));
        let opening = async {
            let (opened, news) = tokio::join!(client.simple_query(&open), client.query_typed(NEWS, &since));
            match opened {
                Err(error) if is_busy(&error) => client.batch_execute("rollback").await.map(|()| None),
                opened => Ok(Some((opened?, news?))),
            }
        };
        let Some((opened, since)) = self.wait(opening)? else { return Ok(None) };
        let mut rows = rows(&opened);
        let locked = rows.next().ok_or("it has no such row")?;
        lineage.check_words(locked.try_get(2).ok().flatten(), locked.try_get(3).ok().flatten())?;
        let schema = |column| locked.try_get(column).ok().flatten().and_then(|text| text.parse::<i32>().ok());
        let (schema, works_with) = (schema(4).ok_or("it does not say which schema it has")?, schema(5));
        if !suits(schema, works_with) {
            // Records may be kept in another way from here on.
            return Err(format!("a newer version has brought its tables to schema {schema}"));
        }
        let (head, number) = (number_of(locked, 0)?, number_of(locked, 1)?);
        let (mut members, mut now) = members(rows)?;
        let mut has_executed = false;
        if !life.is_visit() && members.iter().any(|member| member.id != me && member.alive && member.overdue) {
            (has_executed, members, now) = self.execute(me)?;
        }
        Ok(Some((Opened { head, number, members, has_executed, now }, news(&since)?)))
    }

    fn commit<'a>(&mut self, writes: impl Iterator<Item = &'a Write>, sent: Sent) -> Result<(), String> {
        self.wait(send(self.client()?, writes, sent))
    }

    fn roll_back(&mut self) -> Result<(), String> {
        self.wait(self.client()?.batch_execute("rollback"))
    }

    fn news(&mut self, life: &Life, seen: u64) -> Result<Vec<News>, String> {
        let Connected { client, naming, .. } = self.connected()?;
        let ask = format!("select head, {} from meta", naming.columns());
        let head = self.wait(client.query_typed(&ask, &[]))?;
        life.check(head.first(), 1)?;
        let newest = trees::number_in(head.first(), 0)?;
        if newest < seen {
            return Err("the database went back to an earlier state".into());
        }
        if newest == seen {
            return Ok(Vec::new());
        }
        let (seen, lineage) = (seen as i64, lineage(life)?);
        news(&self.wait(client.query_typed(NEWS, &[(&seen, Type::INT8), (&lineage.history, Type::TEXT)]))?)
    }

    fn size(&mut self) -> Result<u64, String> {
        let size = self.wait(self.client()?.query_typed(trees::SIZE, &[]))?;
        trees::number_in(size.first(), 0)
    }

    fn prune(&mut self, old: u64) -> Result<u64, String> {
        let old = old as i64;
        let pruned = self.wait(self.client()?.execute_typed(PRUNE, &[(&old, Type::INT8)]))?;
        self.wait(self.client()?.execute_typed(FORGET, &[]))?;
        Ok(pruned)
    }

    fn disconnect(&mut self) {
        self.connected = None;
    }

    fn load(&mut self, life: &Life) -> Result<Loaded, ConnectError> {
        let (connected, loaded) = self.loader.load(life)?;
        self.connected = Some(connected);
        Ok(loaded)
    }
}

/// That of the memory.
fn lineage(life: &Life) -> Result<Arc<Lineage>, String> {
    life.lineage().ok_or_else(|| "nothing was read yet".into())
}

/// Sends everything at once; the database works on it in this order.
async fn send<'a>(
    client: &Client,
    writes: impl Iterator<Item = &'a Write>,
    sent: Sent,
) -> Result<(), tokio_postgres::Error> {
    let Sent { version, bytes, used, leaves } = sent;
    let head = version as i64;
    let publish = async {
        if bytes.is_empty() {
            return Ok(0);
        }
        client.execute_typed(PUBLISH, &[(&head, Type::INT8), (&bytes, Type::BYTEA)]).await
    };
    let bury = leaves.map(|member| format!("update daemons set alive = false where id = {member}; "));
    let commit =
        format!("update meta set head = {version}, number = {used}; {}commit", bury.as_deref().unwrap_or_default());
    let (written, published, committed) =
        tokio::join!(trees::write(client, writes), publish, client.batch_execute(&commit));
    // A statement that failed has made the transaction void: no later one is carried out, `commit` included.
    written?;
    published?;
    committed
}

/// Does the row that everybody locks take long to get? Nothing is wrong then.
fn is_busy(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE))
}

/// The question for the members that are not dead, and for this one in any case.
fn members_of(me: u64) -> String {
    format!(
        "select id, alive, until < clock_timestamp(), (extract(epoch from clock_timestamp()) * 1000)::bigint \
         from daemons where alive or id = {me}"
    )
}

/// The rows of all statements of a message.
fn rows(messages: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

/// The rows of [`members_of`], and the moment on the database's clock.
fn members<'a>(rows: impl Iterator<Item = &'a SimpleQueryRow>) -> Result<(Vec<Member>, WallTime), String> {
    let (mut members, mut now) = (Vec::new(), None);
    for row in rows {
        let is = |column| text_of(row, column).map(|text| text == "t");
        members.push(Member { id: number_of(row, 0)?, alive: is(1)?, overdue: is(2)? });
        now = now.or(Some(WallTime(number_of(row, 3)?)));
    }
    Ok((members, now.ok_or("it has no such row")?))
}

fn text_of(row: &SimpleQueryRow, column: usize) -> Result<&str, String> {
    let text = row.try_get(column).map_err(|error| trees::said(&error))?;
    text.ok_or_else(|| "a value is missing".to_owned())
}

/// A number of a row in text. The database keeps no negative ones.
fn number_of(row: &SimpleQueryRow, column: usize) -> Result<u64, String> {
    text_of(row, column)?.parse().map_err(|_| "a value is not a number".to_owned())
}

fn news(rows: &[Row]) -> Result<Vec<News>, String> {
    let one = |row: &Row| {
        let bytes = row.try_get(1).map_err(|error| trees::said(&error))?;
        Ok(News { version: trees::number_in(Some(row), 0)?, bytes })
    };
    rows.iter().map(one).collect()
}
