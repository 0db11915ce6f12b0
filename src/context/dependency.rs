//! The health of a dependency: Graph, Spaces, the receiver of events.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::recent::{Kind, RecentEvents};
use crate::core::model::{MonoTime, WallTime};

/// The last that is known of a dependency.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DependencyHealth {
    /// `None` until the first answer.
    pub ok: Option<bool>,
    /// Since when it is so.
    pub since: WallTime,
    /// What went wrong, where something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Failures since its last success; one log message stands for all of them.
    pub failures: u64,
    /// When it was last logged.
    #[serde(skip)]
    said_at: MonoTime,
    /// Since when it is so, on the monotonic clock.
    #[serde(skip)]
    turned_at: MonoTime,
}

/// One trouble shows in many words (reset, closed, refused); while it lasts, other words are logged this often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// One dependency's health; logs when it turns, and counts in between.
pub struct Dependency {
    name: &'static str,
    health: Mutex<DependencyHealth>,
    recent: RecentEvents,
}

impl Dependency {
    pub(super) fn new(name: &'static str, recent: RecentEvents) -> Self {
        Dependency { name, health: Mutex::default(), recent }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, DependencyHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered.
    pub fn answered(&self) {
        let mut health = self.lock();
        if health.ok != Some(true) {
            let back = health.ok == Some(false);
            let earlier = std::mem::take(&mut *health);
            let (now, failures) = (MonoTime::now(), earlier.failures);
            *health = DependencyHealth {
                ok: Some(true),
                since: WallTime::now(),
                turned_at: now,
                ..DependencyHealth::default()
            };
            if back {
                let (component, down) = (self.name, now.since(earlier.turned_at));
                tracing::info!(
                    dependency = component,
                    failures,
                    "{component}: answers again after {down:.1?} and {failures} failed calls"
                );
                let text = format!("{component} answers again after {down:.1?}");
                self.recent.note(Kind::Dependency, true, &text);
            }
        }
    }

    /// It failed; `text` holds no secret.
    pub fn failed(&self, text: &str) {
        let mut health = self.lock();
        health.failures += 1;
        let now = MonoTime::now();
        let turned = health.ok != Some(false);
        let other_words = health.error.as_deref() != Some(text);
        if turned || (other_words && now.since(health.said_at) >= SAY_EVERY) {
            let (component, failures) = (self.name, health.failures);
            tracing::warn!(
                dependency = component,
                error = text,
                failures,
                "{component}: failing ({text}), retrying by itself"
            );
            health.said_at = now;
        }
        if turned {
            let component = self.name;
            self.recent.note(Kind::Dependency, false, &format!("{component} fails: {text}"));
            (health.since, health.turned_at) = (WallTime::now(), now);
        }
        health.ok = Some(false);
        health.error = Some(text.to_owned());
    }

    /// Its health.
    pub fn health(&self) -> DependencyHealth {
        self.lock().clone()
    }
}
