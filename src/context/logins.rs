//! Logins that came back from the dialog: their progress, for the page that the person sees, and the limits on them.
//!
//! This is memory of the process and nothing more. The links of a login are in the store as soon as there are any. Only
//! the rest of a login's result is kept here, such as the Pages that it took away. A login is known for [`KEPT_FOR`],
//! to the browser that made it, and of more than [`MOST`] the oldest go first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::core::health::ParkReason;
use crate::core::login_limits::LoginLimits;
use crate::core::model::{Label, LinkKey, MonoTime, PageId, UserId};
use crate::store::sessions::{Session, secret_hash};

/// How long the result of a login can be looked at.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 60);
/// Logins known at a time.
const MOST: usize = 1000;

/// The progress of a login.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Facebook is being asked.
    Working,
    /// It ended without links.
    Failed(Failure),
    /// The links are stored.
    Linked(Arc<Report>),
}

/// Why a login ended without links, as far as it matters to the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The code of the dialog was used before, or is too old.
    CodeSpent,
    /// Facebook or the daemon's store does not answer at the moment.
    Away,
    /// Facebook refused.
    Refused,
    /// The person removed the app, or was to be forgotten, while the login was under way.
    Ended,
}

/// The result of a login.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Every Page that Facebook listed.
    pub pages: Vec<Reported>,
    /// Pages that were linked before and stopped.
    pub lost: Vec<Stopped>,
    /// Permissions that were not given.
    pub missing_permissions: Vec<String>,
    /// Facebook did not list everything.
    pub incomplete: bool,
}

impl Report {
    /// The links that were made or renewed.
    pub fn links(&self, user: UserId) -> Vec<LinkKey> {
        let linked = self.pages.iter().filter(|page| page.linked);
        linked.map(|page| LinkKey::new(user, page.id.clone())).collect()
    }
}

/// A Page that Facebook listed.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The Page.
    pub id: PageId,
    /// Its name, where known.
    pub name: Option<String>,
    /// Was it linked?
    pub linked: bool,
    /// It was not linked, because an operator unlinked it while the login was under way.
    pub unlinked: bool,
    /// It was linked, and the person's role is too weak for webhooks.
    pub weak: bool,
}

/// A Page that was linked before and stopped.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// The Page.
    pub id: PageId,
    /// Its name, where known.
    pub name: Option<String>,
    /// The reason.
    pub why: ParkReason,
}

/// One login.
#[derive(Debug)]
pub struct Login {
    /// Names it in the address of its page.
    pub id: String,
    /// The user that the Pages are linked for.
    pub user: UserId,
    /// How pages for persons name that user.
    pub label: Option<Label>,
    browser: [u8; 32],
    began: MonoTime,
    stage: watch::Sender<Stage>,
}

impl Login {
    /// One that another daemon took in, with what the store knows of it.
    pub fn of_another_daemon(id: String, session: &Session, report: Report, now: MonoTime) -> Login {
        let stage = watch::Sender::new(Stage::Linked(Arc::new(report)));
        let browser = secret_hash(session.id.expose());
        Login { id, user: session.user, label: session.label.clone(), browser, began: now, stage }
    }

    /// Its progress.
    pub fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Waits until the login has a result.
    pub async fn ended(&self) {
        let mut stage = self.stage.subscribe();
        // The sender is part of this login, so that there is no other end to wait for.
        let _ = stage.wait_for(|stage| !matches!(stage, Stage::Working)).await;
    }

    /// Notes progress.
    pub fn set(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }
}

/// The logins that are known.
#[derive(Debug, Default)]
pub struct Logins {
    known: Mutex<HashMap<String, Arc<Login>>>,
    limits: Mutex<LoginLimits>,
}

impl Logins {
    /// The counts of the limits.
    pub fn limits(&self) -> MutexGuard<'_, LoginLimits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A login begins to be taken in, in the browser whose session id hashes to `browser`. `id` is random.
    pub fn begin(
        &self,
        id: String,
        browser: [u8; 32],
        user: UserId,
        label: Option<Label>,
        now: MonoTime,
    ) -> Arc<Login> {
        let stage = watch::Sender::new(Stage::Working);
        let login = Arc::new(Login { id: id.clone(), user, label, browser, began: now, stage });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, login| now.since(login.began) < KEPT_FOR);
        while known.len() >= MOST {
            let Some(oldest) = known.values().min_by_key(|login| login.began).map(|login| login.id.clone()) else {
                break;
            };
            known.remove(&oldest);
        }
        known.insert(id, login.clone());
        login
    }

    /// The login of this id, for a browser with one of these cookies.
    pub fn find(&self, id: &str, browsers: &[[u8; 32]], now: MonoTime) -> Option<Arc<Login>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let login = known.get(id).filter(|login| now.since(login.began) < KEPT_FOR)?;
        let same = browsers.iter().any(|browser| bool::from(browser.ct_eq(&login.browser)));
        same.then(|| login.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonoTime = MonoTime(1_795_341_600_000);

    #[test]
    fn a_login_is_shown_to_its_own_browser_and_for_a_while() {
        let logins = Logins::default();
        let begun = logins.begin("a".into(), [1; 32], UserId::random(), None, NOW);
        begun.set(Stage::Failed(Failure::Away));
        let found = logins.find("a", &[[9; 32], [1; 32]], NOW).unwrap();
        assert!(matches!(found.stage(), Stage::Failed(Failure::Away)));
        assert!(logins.find("a", &[[2; 32]], NOW).is_none());
        assert!(logins.find("a", &[], NOW).is_none());
        assert!(logins.find("b", &[[1; 32]], NOW).is_none());
        assert!(logins.find("a", &[[1; 32]], NOW.plus(KEPT_FOR)).is_none());
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let logins = Logins::default();
        for n in 0..MOST + 10 {
            let now = NOW.plus(Duration::from_millis(n as u64));
            logins.begin(n.to_string(), [1; 32], UserId::random(), None, now);
        }
        assert_eq!(logins.known.lock().unwrap().len(), MOST);
        assert!(logins.find("9", &[[1; 32]], NOW).is_none() && logins.find("10", &[[1; 32]], NOW).is_some());
        logins.begin("later".into(), [1; 32], UserId::random(), None, NOW.plus(KEPT_FOR * 2));
        assert_eq!(logins.known.lock().unwrap().len(), 1);
    }
}
