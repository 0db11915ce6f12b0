//! What the database has used: the CPU time of its processes, the bytes of its tables, the transactions it has ended.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use tokio_util::task::AbortOnDropHandle;

use crate::Fallible;
use crate::process::ticks_per_second;

/// The CPU time of a PostgreSQL in this folder: of its first process, of those that live, and of those that have ended.
/// The time of a living one is exact: the ticks of many connections with little work each would all be lost.
pub fn database_cpu(folder: &Path) -> io::Result<Duration> {
    let pid = std::fs::read_to_string(folder.join("data").join("postmaster.pid"))?;
    let first = pid.lines().next().unwrap_or_default().trim().to_owned();
    let own = std::fs::read_to_string(format!("/proc/{first}/stat"))?;
    let ended = ticks_of_ended(&own).unwrap_or_default() as f64 / ticks_per_second();
    let mut sum = Duration::from_secs_f64(ended) + exact(&Path::new("/proc").join(&first)).unwrap_or_default();
    for entry in std::fs::read_dir("/proc")? {
        let process = entry?.path();
        // A process that ended meanwhile is counted the next time.
        let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { continue };
        if parent(&stat) == Some(first.as_str()) {
            sum += exact(&process).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// The CPU time of a process with one thread.
fn exact(process: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(process.join("schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The fourth field. The second one, the program's name, may hold spaces.
fn parent(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)
}

/// `cutime` and `cstime`, the 16th and 17th field.
fn ticks_of_ended(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(13);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// A session of the bench.
pub struct Session {
    client: Client,
    _driver: AbortOnDropHandle<()>,
}

impl Session {
    pub async fn open(url: &str) -> Fallible<Session> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driver = tokio::spawn(async {
            // A connection that breaks shows in the next statement.
            let _ = connection.await;
        });
        Ok(Session { client, _driver: AbortOnDropHandle::new(driver) })
    }

    pub async fn execute(&self, statements: &str) -> Fallible<()> {
        Ok(self.client.batch_execute(statements).await?)
    }

    async fn number(&self, ask: &str) -> Fallible<i64> {
        let rows = self.client.query_typed(ask, &[]).await?;
        Ok(rows.first().ok_or("the database has no answer")?.try_get(0)?)
    }

    /// Bytes of the whole database.
    pub async fn bytes(&self) -> Fallible<i64> {
        self.number("select pg_database_size(current_database())").await
    }

    /// Bytes of a table with its indexes.
    pub async fn bytes_of(&self, table: &str) -> Fallible<i64> {
        self.number(&format!("select pg_total_relation_size('{table}')")).await
    }

    /// Bytes of the living rows of a table, without its indexes.
    pub async fn living_bytes_of(&self, table: &str) -> Fallible<i64> {
        self.number(&format!("select coalesce(sum(pg_column_size({table}.*)), 0)::bigint from {table}")).await
    }

    /// Transactions that have ended so far, those of the bench among them.
    pub async fn transactions(&self) -> Fallible<i64> {
        const ASK: &str = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
        self.number(ASK).await
    }
}
