//! One session with the shared database: encrypted, bounded in time, and refused unless the server keeps what it
//! acknowledges.
//!
//! A pooler in transaction mode forgets what was set for a session, and may hand a session's settings to another
//! client. So what a transaction relies on is set by [`begin`] for that transaction alone. The same values are set for
//! the session as well, for single statements outside of a transaction; they are equal for all roles, so a session that
//! a pooler mixes up is as good as the right one.
//!
//! Statements are not prepared by name: `query_typed` and `execute_typed` need one round trip and work through poolers
//! that know no prepared statements.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Connection, Notification};
use tokio_util::task::AbortOnDropHandle;

use super::errors::{ConnectError, OLDEST};
use super::identity::{Naming, PRIVILEGES};
use super::settings::Settings;

/// For a TCP connection to one host to stand.
const CONNECT: Duration = Duration::from_secs(5);
/// For a session to be ready, TLS and login included.
const READY: Duration = Duration::from_secs(10);
/// Silence after which the other side is asked whether it is there, and the pause between two such questions.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Sent data that nobody acknowledges for so long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Notifications that wait to be taken. More than that are dropped: each says that there is news, and a poll finds it.
const NOTIFICATIONS: usize = 64;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Writes the decisions of this daemon.
    Committer,
    /// Reads what no memory holds.
    Reader,
    /// Renews this daemon's lease.
    Beat,
    /// Waits for notifications.
    Listener,
    /// Works for an operator: the schema, a whole copy.
    Admin,
}

/// A session. It ends when this is dropped.
#[derive(Debug)]
pub struct Connected {
    /// Sends statements.
    pub client: Client,
    /// What arrives on the channels that this session listens to. Closed when the connection is.
    pub notifications: mpsc::Receiver<Notification>,
    /// Moves the bytes.
    pub driver: AbortOnDropHandle<()>,
    /// How to ask which database it is.
    pub naming: Naming,
}

/// The statements that begin a transaction of a session. They are sent as one (`batch_execute`).
pub fn begin(role: Role) -> &'static str {
    macro_rules! begin {
        ($statement:literal, $lock:literal, $idle:literal) => {
            concat!(
                "begin isolation level read committed; set local synchronous_commit = on; set local statement_timeout = ",
                $statement,
                "; set local lock_timeout = ",
                $lock,
                "; set local idle_in_transaction_session_timeout = ",
                $idle
            )
        };
    }
    match role {
        Role::Beat => begin!("1000", "1000", "3000"),
        Role::Committer | Role::Reader | Role::Listener => begin!("5000", "10000", "3000"),
        Role::Admin => begin!("300000", "60000", "10000"),
    }
}

const SESSION: &str = "set synchronous_commit = on; set statement_timeout = 5000; set lock_timeout = 10000; \
                       set idle_in_transaction_session_timeout = 3000; \
                       set default_transaction_isolation = 'read committed'";

/// Opens a session and asks the server whether it can be built on. Takes ten seconds at most.
///
/// # Errors
/// [`ConnectError`]. After one that [may pass](ConnectError::may_pass) another attempt makes sense.
pub async fn connect(settings: &Settings, role: Role) -> Result<Connected, ConnectError> {
    let place = settings.url().place();
    match tokio::time::timeout(READY, open(settings)).await {
        Ok(connected) => {
            let connected = connected?;
            tracing::debug!("store: connected to {place} as {role:?}");
            Ok(connected)
        }
        Err(_) => Err(ConnectError::Away { place: place.to_owned(), detail: format!("nothing within {READY:?}") }),
    }
}

async fn open(settings: &Settings) -> Result<Connected, ConnectError> {
    let failed = |error: tokio_postgres::Error| ConnectError::of(settings, &error);
    let mut parameters = settings.url().parameters().clone();
    parameters
        .application_name(format!("pagesyncd {}", settings.node))
        .connect_timeout(CONNECT)
        .keepalives_idle(KEEPALIVE)
        .keepalives_interval(KEEPALIVE)
        .keepalives_retries(3)
        .tcp_user_timeout(UNACKNOWLEDGED);
    let (client, connection) = parameters.connect(settings.tls()).await.map_err(failed)?;
    let (sender, notifications) = mpsc::channel(NOTIFICATIONS);
    let driver = AbortOnDropHandle::new(tokio::spawn(drive(connection, sender)));
    client.batch_execute(SESSION).await.map_err(failed)?;
    let naming = verify(settings, &client).await?;
    Ok(Connected { client, notifications, driver, naming })
}

/// Moves the bytes of a connection until either side ends it.
async fn drive<S, T>(mut connection: Connection<S, T>, notifications: mpsc::Sender<Notification>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                // A full channel has enough news in it, and a closed one has no reader.
                let _ = notifications.try_send(notification);
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!("store: the connection to the database ended ({error})");
                return;
            }
            None => return,
        }
    }
}

/// Asks the server for what the promises rest on.
async fn verify(settings: &Settings, client: &Client) -> Result<Naming, ConnectError> {
    let ask = format!(
        "select current_setting('server_version_num')::int4, pg_is_in_recovery(), \
         current_setting('transaction_read_only'), current_setting('synchronous_commit'), {PRIVILEGES}"
    );
    let failed = |error: tokio_postgres::Error| ConnectError::of(settings, &error);
    let rows = client.query_typed(&ask, &[]).await.map_err(failed)?;
    let row = rows.first().ok_or_else(|| ConnectError::Failed {
        place: settings.url().place().to_owned(),
        detail: "no answer to a question about its settings".to_owned(),
    })?;
    let version: i32 = row.try_get(0).map_err(failed)?;
    let standby: bool = row.try_get(1).map_err(failed)?;
    let read_only: String = row.try_get(2).map_err(failed)?;
    let synchronous: String = row.try_get(3).map_err(failed)?;
    let naming = Naming::new(row.try_get(4).map_err(failed)?, row.try_get(5).map_err(failed)?);
    let found = u32::try_from(version).unwrap_or_default() / 10_000;
    let read_only = (read_only != "off").then_some("default_transaction_read_only is on");
    if found < OLDEST {
        return Err(ConnectError::TooOld { found });
    }
    if let Some(why) = standby.then_some("it is a standby").or(read_only) {
        return Err(ConnectError::ReadOnly { place: settings.url().place().to_owned(), why });
    }
    if synchronous != "on" {
        return Err(ConnectError::NotSynchronous { found: synchronous });
    }
    Ok(naming)
}
