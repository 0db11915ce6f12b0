//! Two daemons of one name: the later one is refused at its start, because nobody could tell them apart in `status`.
//!
//! A daemon that was killed leaves a row that still lives for some seconds, and its successor has the same name. So a
//! row alone refuses nothing: another daemon has the name when it beats. A daemon beats once a second, and
//! [`SILENCE`] without a beat is the end of it here. One that is paused for longer is not noticed at the start of the
//! other one; both then say in `status` that they have one name.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::errors::ConnectError;
use super::settings::Settings;
use super::trees::number_in;
use crate::core::lease::LIFE;

/// A daemon of the same name that has not beaten for so long is gone.
const SILENCE: Duration = Duration::from_millis(2_500);
/// How often is looked for a beat.
const LOOK: Duration = Duration::from_millis(200);

/// The daemons of a name: when the life of the one that beat last ends, and how much of it is left, in milliseconds.
const NAMESAKE: &str = "select (extract(epoch from until) * 1000)::bigint, \
                        (extract(epoch from until - clock_timestamp()) * 1000)::bigint \
                        from daemons where name = $1 and alive and until > clock_timestamp() order by until desc limit 1";

/// Waits until no daemon of this name lives, for as long as a living one can be silent.
///
/// # Errors
/// [`ConnectError::NameTaken`] when a daemon of this name beats.
pub(super) async fn refuse(settings: &Settings, client: &Client) -> Result<(), ConnectError> {
    let broken = |detail| ConnectError::Failed { place: settings.url().place().to_owned(), detail };
    let mut first = None;
    loop {
        let found = client.query_typed(NAMESAKE, &[(&settings.node, Type::TEXT)]).await;
        let found = found.map_err(|error| ConnectError::of(settings, &error))?;
        if found.is_empty() {
            return Ok(());
        }
        let (until, left) =
            (number_in(found.first(), 0).map_err(broken)?, number_in(found.first(), 1).map_err(broken)?);
        if *first.get_or_insert(until) != until {
            return Err(ConnectError::NameTaken {
                place: settings.url().place().to_owned(),
                node: settings.node.clone(),
            });
        }
        if LIFE.saturating_sub(Duration::from_millis(left)) >= SILENCE {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
