//! A look at the shared database without joining the daemons: everything that would refuse a start, and what is good to
//! know. Nothing is changed.

use std::time::Duration;

use super::bucket;
use super::connect::{Connected, Role, connect};
use super::errors::ConnectError;
use super::lineage;
use super::memory::Memory;
use super::schema::{Brought, bring_forward};
use super::settings::Settings;
use super::standing;
use crate::random;
use crate::store::seal::Keyring;

/// A notification that does not arrive within this does not pass at all.
const HEARD: Duration = Duration::from_secs(3);

/// What a look at a database that can be used has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The schema that is there, and this program's.
    pub schema: Brought,
    /// Does a notification pass from one session to another? Not through a pooler in transaction mode.
    pub hears: bool,
    /// The database has become another one for this reason, as far as this daemon knows. A start says so, and reads every
    /// link again.
    pub changed: Option<String>,
    /// What this daemon knew of the database cannot be read, for this reason.
    pub forgotten: Option<String>,
}

impl Probed {
    /// For so long after a start that finds the database changed, no object is written.
    pub const QUIET: Duration = lineage::QUIET;
}

/// Looks at the database as a start does.
///
/// # Errors
/// [`ConnectError`], the one with which the start would be refused.
pub async fn probe(settings: &Settings, keyring: &Keyring) -> Result<Probed, ConnectError> {
    let session = connect(settings, Role::Admin).await?;
    let schema = bring_forward(settings, &session.client, true).await?;
    if schema.from < schema.to && !settings.migrate {
        return Err(ConnectError::Behind { found: schema.from, known: schema.to });
    }
    if schema.from == schema.to {
        standing::is_here(settings, &session.client).await?;
        standing::check_key(settings, &session.client, keyring).await?;
        bucket::check(settings, &session.client).await?;
    }
    let recalled = settings.folder.as_deref().map_or(Ok(None), |folder| Memory::of(folder).recall());
    let (known, forgotten) = match recalled {
        Ok(known) => (known, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let changed = match schema.from {
        0 => known.map(|known| format!("it was {}, and is empty", known.lineage.identity)),
        _ => lineage::foresee(settings, &session, known.as_ref()).await?,
    };
    Ok(Probed { schema, hears: hears(settings, &session).await?, changed, forgotten })
}

/// Does a notification of one session reach another one? Its channel is this look's alone.
async fn hears(settings: &Settings, sender: &Connected) -> Result<bool, ConnectError> {
    let failed = |error: tokio_postgres::Error| ConnectError::of(settings, &error);
    let channel = format!("pagesyncd_probe_{}", hex::encode(random::unique::<6>()));
    let mut listener = connect(settings, Role::Listener).await?;
    listener.client.batch_execute(&format!("listen {channel}")).await.map_err(failed)?;
    sender.client.batch_execute(&format!("notify {channel}")).await.map_err(failed)?;
    let heard = tokio::time::timeout(HEARD, listener.notifications.recv()).await;
    Ok(matches!(heard, Ok(Some(_))))
}
