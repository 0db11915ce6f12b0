//! The committer's session with PostgreSQL. The statements of a turn are sent together, so that a turn costs two round
//! trips.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::connect::{Connected, Role, begin};
use super::database::{Database, Loaded, News, Opened, Sent};
use super::errors::ConnectError;
use super::life::Life;
use super::loading::Loader;
use super::trees::{self, ANSWER, Value};
use crate::core::lease::Member;
use crate::core::model::WallTime;
use crate::store::tree::Write;

const MEMBERS: &str = "select id, alive, until < clock_timestamp(), \
                       (extract(epoch from clock_timestamp()) * 1000)::bigint \
                       from daemons where alive or id = $1";
const NEWS: &str = "select version, writes from changes \
                    where version > $1 and (select history from meta) = $2 order by version";
const ADVANCE: &str = "update meta set head = $1, number = $2";
const PUBLISH: &str = "insert into changes (version, writes) values ($1, $2)";
const EXECUTE: &str = "update daemons set alive = false \
                       where alive and id <> $1 and until < clock_timestamp() returning id";
const BURY: &str = "update daemons set alive = false where id = $1";
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
}

impl Database for PostgreSql {
    fn open_turn(&mut self, life: &Life, seen: u64) -> Result<Option<(Opened, Vec<News>)>, String> {
        let Connected { client, naming, .. } = self.connected()?;
        let lock = format!("select head, number, {} from meta for update", naming.columns());
        let (me, seen, history) = (life.member() as i64, seen as i64, history(life)?);
        let i_am: [Value<'_>; 1] = [(&me, Type::INT8)];
        let since: [Value<'_>; 2] = [(&seen, Type::INT8), (&history, Type::TEXT)];
        let is_visit = life.is_visit();
        // A member that beats at this moment either lives, or finds itself dead: the row is tested and changed in one.
        let execute = async { if is_visit { Ok(Vec::new()) } else { client.query_typed(EXECUTE, &i_am).await } };
        let opening = async {
            let (begun, locked, executed, members, news) = tokio::join!(
                client.batch_execute(begin(Role::Committer)),
                client.query_typed(&lock, &[]),
                execute,
                client.query_typed(MEMBERS, &i_am),
                client.query_typed(NEWS, &since),
            );
            begun?;
            let locked = match locked {
                Err(error) if is_busy(&error) => {
                    client.batch_execute("rollback").await?;
                    return Ok(None);
                }
                locked => locked?,
            };
            Ok(Some((locked, !executed?.is_empty(), members?, news?)))
        };
        let Some((locked, has_executed, members, rows)) = self.wait(opening)? else { return Ok(None) };
        life.check(locked.first(), 2)?;
        let (head, number) = (trees::number_in(locked.first(), 0)?, trees::number_in(locked.first(), 1)?);
        let now = WallTime(trees::number_in(members.first(), 3)?);
        let members = members.iter().map(member).collect::<Result<Vec<Member>, String>>()?;
        Ok(Some((Opened { head, number, members, has_executed, now }, news(&rows)?)))
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
        let (seen, history) = (seen as i64, history(life)?);
        news(&self.wait(client.query_typed(NEWS, &[(&seen, Type::INT8), (&history, Type::TEXT)]))?)
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

/// The history that memory was read under.
fn history(life: &Life) -> Result<String, String> {
    life.lineage().map(|lineage| lineage.history.clone()).ok_or_else(|| "nothing was read yet".into())
}

/// Sends everything at once; the database works on it in this order.
async fn send<'a>(
    client: &Client,
    writes: impl Iterator<Item = &'a Write>,
    sent: Sent,
) -> Result<(), tokio_postgres::Error> {
    let Sent { version, bytes, used, leaves } = sent;
    let (version, used, leaves) = (version as i64, used as i64, leaves.map(|member| member as i64));
    let publish = async {
        if bytes.is_empty() {
            return Ok(0);
        }
        client.execute_typed(PUBLISH, &[(&version, Type::INT8), (&bytes, Type::BYTEA)]).await
    };
    let bury = async {
        let Some(leaves) = leaves else { return Ok(0) };
        client.execute_typed(BURY, &[(&leaves, Type::INT8)]).await
    };
    let advance: [Value<'_>; 2] = [(&version, Type::INT8), (&used, Type::INT8)];
    let (written, published, buried, advanced, committed) = tokio::join!(
        trees::write(client, writes),
        publish,
        bury,
        client.execute_typed(ADVANCE, &advance),
        client.batch_execute("commit"),
    );
    // A statement that failed has made the transaction void, whatever `commit` says.
    written?;
    published?;
    buried?;
    advanced?;
    committed
}

/// Does the row that everybody locks take long to get? Nothing is wrong then.
fn is_busy(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE))
}

fn member(row: &Row) -> Result<Member, String> {
    let said = |error| trees::said(&error);
    let alive = row.try_get(1).map_err(said)?;
    let overdue = row.try_get(2).map_err(said)?;
    Ok(Member { id: trees::number_in(Some(row), 0)?, alive, overdue })
}

fn news(rows: &[Row]) -> Result<Vec<News>, String> {
    let one = |row: &Row| {
        let bytes = row.try_get(1).map_err(|error| trees::said(&error))?;
        Ok(News { version: trees::number_in(Some(row), 0)?, bytes })
    };
    rows.iter().map(one).collect()
}
