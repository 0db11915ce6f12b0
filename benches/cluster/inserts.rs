//! The yardsticks: a row for each delivery, inserted and committed by the client that the daemon uses, over as many
//! connections as there are deliveries at a time.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_postgres::{Client, NoTls, Statement};

use crate::load::{Outcome, histogram};
use crate::yardstick::{Keep, Kind, serve_with};
use crate::{Fallible, marks};

/// A schema of its own: the daemons know each table of theirs.
pub const TABLE: &str = "create schema if not exists yardstick; \
     create table if not exists yardstick.deliveries (number bigint generated always as identity primary key, body bytea)";
const INSERT: &str = "insert into yardstick.deliveries (body) values ($1)";

/// A connection with the prepared statement.
struct Session {
    client: Client,
    insert: Statement,
}

/// Connections, each for one delivery at a time.
pub struct Sessions {
    all: Vec<Session>,
    idle: Mutex<Vec<usize>>,
}

impl Sessions {
    pub async fn open(url: &str, count: usize) -> Result<Sessions, tokio_postgres::Error> {
        let mut all = Vec::new();
        for _ in 0..count {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            let insert = client.prepare(INSERT).await?;
            all.push(Session { client, insert });
        }
        Ok(Sessions { idle: Mutex::new((0..count).collect()), all })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Inserts a row and commits it. `None` when there is no idle connection, or when the database refused.
    async fn insert(&self, body: &[u8]) -> Option<()> {
        let number = self.idle().pop()?;
        let Session { client, insert } = &self.all[number];
        let inserted = client.execute(insert, &[&body]).await;
        self.idle().push(number);
        inserted.ok().map(drop)
    }
}

/// Is the yardstick `insert`, with its kind and the address of the database as arguments, until it is killed.
pub fn serve(arguments: &[String]) -> io::Result<()> {
    let [kind, url] = arguments else { return Err(io::Error::other("a yardstick is `insert URL`")) };
    if kind != Kind::Insert.name() {
        return Err(io::Error::other("this bench has no such yardstick"));
    }
    let url = url.clone();
    serve_with(async move {
        let sessions = Arc::new(Sessions::open(&url, marks::CONNECTIONS).await.map_err(io::Error::other)?);
        let keep: Keep = Box::new(move |body: Bytes| {
            let sessions = sessions.clone();
            Box::pin(async move { sessions.insert(&body).await })
        });
        Ok(Some(keep))
    })
}

/// The same without HTTP: inserts these bodies, each over the connection that is idle first.
pub async fn alone(sessions: Arc<Sessions>, bodies: Arc<Vec<Vec<u8>>>) -> Fallible<Outcome> {
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let workers: Vec<_> = (0..marks::CONNECTIONS)
        .map(|_| {
            let (sessions, bodies, next) = (sessions.clone(), bodies.clone(), next.clone());
            tokio::spawn(async move {
                let (mut latencies, mut refused) = (histogram(), 0);
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let since = Instant::now();
                    refused += u64::from(sessions.insert(body).await.is_none());
                    latencies.saturating_record((since.elapsed().as_micros() as u64).max(1));
                }
                (latencies, refused)
            })
        })
        .collect();
    let mut outcome = Outcome { answered: 0, unexpected: 0, took: Duration::ZERO, latencies: histogram() };
    for worker in workers {
        let (latencies, refused) = worker.await?;
        outcome.answered += latencies.len() - refused;
        outcome.unexpected += refused;
        outcome.latencies.add(latencies)?;
    }
    outcome.took = began.elapsed();
    Ok(outcome)
}
