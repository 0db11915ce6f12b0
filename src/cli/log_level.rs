//! `log-level`: shows the level of a running daemon's log, sets another one for a while, or puts the configured one
//! back.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::admin::AdminClient;
use super::output::line;
use crate::exit::Failure;

/// The arguments of `log-level`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The level, such as `debug` or `info,pagesyncd::store=debug`; the level in force is shown without one
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    /// For how long, like 10m, 7d at most; the level of the configuration comes back then, and with a reload
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration, requires = "level")]
    #[arg(default_value = "1h")]
    time: Duration,
    /// Put the level of the configuration back
    #[arg(long, conflicts_with = "level")]
    reset: bool,
}

pub(super) fn log_level(client: &AdminClient, args: &Args, as_json: bool) -> Result<(), Failure> {
    let (method, body) = match &args.level {
        Some(level) => {
            let time = humantime::format_duration(args.time).to_string();
            (Method::PUT, json!({"level": level, "for": time}).to_string())
        }
        None if args.reset => (Method::DELETE, String::new()),
        None => (Method::GET, String::new()),
    };
    let answer = client.call(method, "/v1/log", body)?;
    if as_json {
        return line(format_args!("{answer:#}"));
    }
    line(text(&answer))
}

/// The level for a person.
fn text(answer: &Value) -> String {
    let word = |key: &str| answer[key].as_str().unwrap_or_default();
    match answer["until"].as_str() {
        Some(until) => format!("{} until {until}, then {} as configured", word("level"), word("configured")),
        None => format!("{} as configured", word("level")),
    }
}
