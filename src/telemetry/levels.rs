//! Which events are written: the configured level, the level that an operator set for a while, and the limits that none
//! of them passes.

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use crate::core::model::{MonoTime, WallTime};

/// Crates whose detail holds secrets or records. A name covers every target that begins with it.
pub(super) const CLOSED: &[&str] = &[
    "awscreds",
    "h2",
    "hyper",
    "reqwest",
    "rustls",
    "s3",
    "sled",
    "tokio_postgres",
    "tokio_rustls",
    "tower",
    "tungstenite",
];

/// Crates that talk too much to be heard below a warning.
const TALKATIVE: &[&str] = &["ractor"];

/// The levels in force, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelStatus {
    /// The level in force.
    pub level: String,
    /// The level of the configuration.
    pub configured: String,
    /// When the level of the configuration comes back; `None` while it is in force.
    pub until: Option<WallTime>,
}

/// The configured level, and another one in its place for a while.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels {
    configured: String,
    temporary: Option<(String, MonoTime)>,
}

impl Levels {
    /// The level of the configuration, with nothing in its place.
    pub(super) fn of(configured: &str) -> Levels {
        Levels { configured: configured.to_owned(), temporary: None }
    }

    /// Another level from now on for this time.
    pub(super) fn set_temporary(&mut self, level: &str, now: MonoTime, time: Duration) {
        self.temporary = Some((level.to_owned(), now.plus(time)));
    }

    /// When the level of the configuration comes back.
    pub(super) fn ends(&self) -> Option<MonoTime> {
        self.temporary.as_ref().map(|(_, until)| *until)
    }

    /// The level of the configuration.
    pub(super) fn configured(&self) -> &str {
        &self.configured
    }

    pub(super) fn status(&self) -> LevelStatus {
        let configured = self.configured.clone();
        match &self.temporary {
            Some((level, until)) => LevelStatus { level: level.clone(), configured, until: Some(until.to_wall()) },
            None => LevelStatus { level: configured.clone(), configured, until: None },
        }
    }
}

/// The filter for a level: what was asked for, within the limits that the head of [`telemetry`](super) explains. `None`
/// for a text that is no level.
pub(super) fn filter(level: &str) -> Option<Targets> {
    let mut base = LevelFilter::INFO;
    let mut named = Vec::new();
    for part in level.split(',').map(str::trim) {
        let (target, word) = part.rsplit_once('=').map_or((None, part), |(target, word)| (Some(target), word));
        let wanted: LevelFilter = word.parse().ok()?;
        match target {
            Some(target) => named.push((target, wanted)),
            None => base = wanted,
        }
    }
    let everything = base == LevelFilter::TRACE;
    let limit = |most: LevelFilter| base.min(most);
    let closed = limit(if everything { LevelFilter::INFO } else { LevelFilter::WARN });
    let talkative = if everything { base } else { limit(LevelFilter::WARN) };
    let limits = CLOSED.iter().map(|target| (*target, closed));
    let limits = limits.chain(TALKATIVE.iter().map(|target| (*target, talkative)));
    // Behind the limits, so that a name given by hand replaces them; never beyond `info` for what is closed.
    let named = named
        .into_iter()
        .map(|(target, wanted)| (target, if is_closed(target) { wanted.min(LevelFilter::INFO) } else { wanted }));
    Some(Targets::new().with_default(base).with_targets(limits.chain(named)))
}

fn is_closed(target: &str) -> bool {
    CLOSED.iter().any(|name| target.starts_with(name))
}
