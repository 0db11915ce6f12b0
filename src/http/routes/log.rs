//! The level of the log: shown, and on the admin socket set for a while and put back.
//!
//! A level that is set here ends by itself, with a reload and with a restart, so that an operator who looked closely
//! once does not fill the disk for ever. It opens no crate that the configuration cannot open.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::query::bad;
use crate::context::Context;
use crate::core::model::WallTime;
use crate::http::body;
use crate::http::budget::Budget;
use crate::http::forms;
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::telemetry::{LevelStatus, TelemetryError};

const MAX_FORM: usize = 16 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a level holds that is set without a time.
const DEFAULT_TIME: Duration = Duration::from_secs(3600);
/// The times that a level may hold.
const TIMES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    level: String,
    #[serde(default)]
    r#for: Option<String>,
}

/// Answers GET, PUT and DELETE.
pub(super) async fn answer(context: &Context, request: Request<Incoming>, conn: &Conn) -> Answer {
    let Some(telemetry) = &context.telemetry else { return responses::not_found() };
    let changed = match *request.method() {
        Method::PUT => {
            let whole = match body::read(request.into_body(), MAX_FORM, BODY_TIMEOUT, Budget::Operator, conn).await {
                Ok(whole) => whole,
                Err(why) => return responses::no_body(why),
            };
            match wish(&whole.bytes) {
                Ok((level, time)) => telemetry.set_level_for(&level, time),
                Err(complaint) => return bad(&complaint),
            }
        }
        Method::DELETE => telemetry.reset_level(),
        _ => Ok(telemetry.level()),
    };
    match changed {
        Ok(status) => shown(&status),
        Err(error @ TelemetryError::Level(_)) => bad(&error.to_string()),
        Err(error) => responses::unavailable(&error.to_string(), 1),
    }
}

fn wish(body: &[u8]) -> Result<(String, Duration), String> {
    let wish: Wish =
        forms::read(body, &["level", "for"], "{\"level\": \"info,pagesyncd::store=debug\", \"for\": \"1h\"}")?;
    let time = wish.r#for.map_or(Ok(DEFAULT_TIME), |time| humantime::parse_duration(&time));
    let time = time.map_err(|_| "for is not a duration (expected something like \"10m\")".to_owned())?;
    if !TIMES.contains(&time) {
        return Err("for is out of range; choose from 1s to 7d".to_owned());
    }
    Ok((wish.level, time))
}

fn shown(status: &LevelStatus) -> Answer {
    let until = status.until.map(WallTime::rfc3339);
    responses::json(StatusCode::OK, &json!({"level": status.level, "configured": status.configured, "until": until}))
}
