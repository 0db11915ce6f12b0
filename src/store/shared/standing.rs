//! What lies in the database, before it is read: is the store here, as far as moves go, and do these keys open it?

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::errors::ConnectError;
use super::settings::Settings;
use crate::store::check;
use crate::store::move_note::{self, Note, Stage};
use crate::store::seal::Keyring;
use crate::store::tree::Tree;

const GET: &str = "select value from records where tree = $1 and key = $2";

/// The bytes of a record of the tree `meta`.
async fn record(settings: &Settings, client: &Client, key: &[u8]) -> Result<Option<Vec<u8>>, ConnectError> {
    let (failed, tree) = (|error| ConnectError::of(settings, &error), Tree::Meta as i16);
    let found = client.query_typed(GET, &[(&tree, Type::INT2), (&key, Type::BYTEA)]).await.map_err(failed)?;
    found.first().map(|row| row.try_get(0)).transpose().map_err(failed)
}

/// Refuses a store that was moved away, or that is not all here yet.
///
/// # Errors
/// [`ConnectError::Moved`] and [`ConnectError::HalfMoved`], or the connection failed.
pub(super) async fn is_here(settings: &Settings, client: &Client) -> Result<(), ConnectError> {
    let place = settings.url().place().to_owned();
    let Some(found) = record(settings, client, move_note::KEY).await? else { return Ok(()) };
    match Note::of_record(&found) {
        Ok(Note { stage: Stage::Here, .. }) => Ok(()),
        Ok(Note { stage: Stage::Left, other, .. }) => Err(ConnectError::Moved { place, to: other }),
        Ok(Note { stage: Stage::Coming, .. }) => Err(ConnectError::HalfMoved { place }),
        Err(damaged) => Err(ConnectError::Failed { place, detail: damaged.to_string() }),
    }
}

/// Refuses keys that do not open what was sealed here. Nothing was sealed in an empty database.
///
/// # Errors
/// [`ConnectError::OtherKey`], or the connection failed.
pub(super) async fn check_key(settings: &Settings, client: &Client, keyring: &Keyring) -> Result<(), ConnectError> {
    let Some(found) = record(settings, client, check::KEY).await? else { return Ok(()) };
    let other = || ConnectError::OtherKey { place: settings.url().place().to_owned() };
    check::opens(keyring, &found).then_some(()).ok_or_else(other)
}
