//! The bucket that has the objects of this store. The database notes its address, so that all daemons write to one: with
//! two, each would have a part of the objects, and nobody would see it.
//!
//! The first daemon that finds none noted notes its own. A daemon with another one is refused. An operator who changes the
//! bucket stops all daemons first, and marks every link with the change: each object is compared with what the new bucket
//! has, and is written there.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::connect::{Role, begin};
use super::errors::ConnectError;
use super::lineage;
use super::settings::Settings;
use super::standing;
use super::trees;

const NOTE: &str = "update meta set bucket = $1 where bucket is null";
const NOTED: &str = "select bucket from meta";
const LOCK: &str = "select bucket, number from meta for update";
const ALIVE: &str = "select name from daemons where alive and until > clock_timestamp() order by id limit 1";
/// The version rises, so that a daemon that has just read the database reads it again.
const CHANGE: &str = "update meta set bucket = $1, number = number + 1, head = head + 1";

/// Notes the bucket of the configuration, where none is noted.
///
/// # Errors
/// The connection failed.
pub(super) async fn note(settings: &Settings, client: &Client) -> Result<(), ConnectError> {
    let Some(bucket) = &settings.bucket else { return Ok(()) };
    let noted = client.execute_typed(NOTE, &[(bucket, Type::TEXT)]).await;
    noted.map(drop).map_err(|error| ConnectError::of(settings, &error))
}

/// Refuses another bucket than the one that is noted.
///
/// # Errors
/// [`ConnectError::OtherBucket`], or the connection failed.
pub(super) async fn check(settings: &Settings, client: &Client) -> Result<(), ConnectError> {
    let failed = |error: Error| ConnectError::of(settings, &error);
    let rows = client.query_typed(NOTED, &[]).await.map_err(failed)?;
    let noted: Option<String> = rows.first().map(|row| row.try_get(0)).transpose().map_err(failed)?.flatten();
    match (noted, &settings.bucket) {
        (Some(noted), Some(configured)) if noted != *configured => {
            let (place, configured) = (settings.url().place().to_owned(), configured.clone());
            Err(ConnectError::OtherBucket { place, noted, configured })
        }
        _ => Ok(()),
    }
}

/// What a change of the bucket has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketChange {
    /// The address that was noted before; `None` for none.
    pub from: Option<String>,
    /// The one that is noted now.
    pub to: String,
}

/// Notes the bucket of the configuration in place of the one before, and marks every link.
///
/// # Errors
/// [`ConnectError::InUse`] while a daemon is alive; the errors of a start; or the connection failed, and nothing was
/// changed.
pub async fn change(settings: &Settings, client: &Client) -> Result<BucketChange, ConnectError> {
    let failed = |error: Error| ConnectError::of(settings, &error);
    standing::is_here(settings, client).await?;
    client.batch_execute(begin(Role::Admin)).await.map_err(failed)?;
    let outcome = within(settings, client).await;
    let end = if outcome.is_ok() { "commit" } else { "rollback" };
    let ended = client.batch_execute(end).await.map_err(failed);
    let moved = outcome?;
    ended.map(|()| moved)
}

async fn within(settings: &Settings, client: &Client) -> Result<BucketChange, ConnectError> {
    let failed = |error: Error| ConnectError::of(settings, &error);
    let place = settings.url().place().to_owned();
    let to = settings.bucket.clone().unwrap_or_default();
    let rows = client.query_typed(LOCK, &[]).await.map_err(failed)?;
    let from: Option<String> = rows.first().map(|row| row.try_get(0)).transpose().map_err(failed)?.flatten();
    if from.as_ref() == Some(&to) {
        return Ok(BucketChange { from, to });
    }
    if let Some(row) = client.query_typed(ALIVE, &[]).await.map_err(failed)?.first() {
        return Err(ConnectError::InUse { place, node: row.try_get(0).map_err(failed)? });
    }
    let number = trees::number_in(rows.first(), 1).map_err(|detail| ConnectError::Failed { place, detail })?;
    if from.is_some() {
        lineage::mark_all(client, number + 1).await.map_err(failed)?;
    }
    client.execute_typed(CHANGE, &[(&to, Type::TEXT)]).await.map_err(failed)?;
    Ok(BucketChange { from, to })
}
