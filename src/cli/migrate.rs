//! `migrate`: brings the tables of the shared database forward, or says what that would do; with `--bucket`, notes another
//! bucket there.

use std::path::Path;

use serde_json::json;

use super::common::{database_failure, load, small_runtime};
use super::output::line;
use crate::exit::{self, Failure};
use crate::store::shared::bucket::{self, BucketChange};
use crate::store::shared::connect::{Role, connect};
use crate::store::shared::errors::ConnectError;
use crate::store::shared::schema::{Brought, bring_forward};
use crate::store::shared::settings::Settings;

pub(super) fn migrate(path: &Path, check: bool, to_bucket: bool, as_json: bool) -> Result<(), Failure> {
    let config = load(path)?.config;
    let settings = Settings::of(&config).map_err(|error| Failure::new(exit::CONFIG, error, ""))?;
    let Some(settings) = settings else {
        let hint = "a local store needs no migration by hand, the daemon does that when it starts";
        return Err(Failure::new(exit::CONFIG, "store.url is not set, so there is no shared database", hint));
    };
    let outcome = small_runtime()?.block_on(async {
        let session = connect(&settings, Role::Admin).await?;
        let brought = bring_forward(&settings, &session.client, check).await?;
        let moved = if to_bucket { Some(bucket::change(&settings, &session.client).await?) } else { None };
        Ok((brought, moved))
    });
    let (brought, moved) = outcome.map_err(|error| database_failure(&error))?;
    match moved {
        Some(moved) => say_bucket(&moved, as_json),
        None => say(&settings, brought, check, as_json),
    }
}

fn say_bucket(BucketChange { from, to }: &BucketChange, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return line(format_args!("{:#}", json!({"bucket": to, "earlier_bucket": from})));
    }
    match from {
        Some(from) if from == to => line(format_args!("the bucket is {to}, as it was")),
        Some(from) => {
            line(format_args!(
                "the bucket is {to} now, it was {from}; start the daemons, which read every link again"
            ))?;
            line(format_args!("{from} keeps its objects; remove them when they are not needed"))
        }
        None => line(format_args!("the bucket is {to} now, none was noted")),
    }
}

fn say(settings: &Settings, Brought { from, to }: Brought, check: bool, as_json: bool) -> Result<(), Failure> {
    let place = settings.url().place();
    if as_json {
        line(format_args!("{:#}", json!({"from": from, "to": to, "pending": check && from < to})))?;
    } else if from == to {
        line(format_args!("the database at {place} has schema {to}, as it should"))?;
    } else if !check {
        line(format_args!("the database at {place} has schema {to} now, it had {from}"))?;
    }
    if check && from < to {
        return Err(database_failure(&ConnectError::Behind { found: from, known: to }));
    }
    Ok(())
}
