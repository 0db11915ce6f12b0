//! A link's health: its word for dashboards, and its reason and remedy for a person. Pure: the moment is an argument.
//!
//! ```text
//!            ┌── throttled (until) ──┐   passes by itself, never stored
//! active ────┤                       ├── Graph is called, or will be
//!            └── expiring (date) ────┘   the token's date is near, taken from the last check
//!    │  a dead token, a lost permission, role or page
//!    ▼
//! parked: needs_relink · revoked · lost_role · app_removed · page_gone · blocked
//!    │  a new link, by the same person or by another
//!    ▼
//! active
//! ```
//!
//! A parked link makes no Graph call, since a dead token that is tried again and again gets an app blocked; nothing but
//! a new link ends that. The exception is a reason that passes by itself, such as a shop that is frozen: its token is
//! checked once a day, and a check that succeeds ends it. A source's errors park a link through [`Disposition::Park`]
//! alone; all others leave it as it is. A report of Meta (the person removed the app) overrules the result of a call.
//! Otherwise the first reason stays, because later failures follow from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disposition::Disposition;
pub use super::park_reason::ParkReason;
use crate::core::model::WallTime;

/// Every word of a health, in the order of the reference: those that pass or need nobody at once, then the parked ones.
pub const WORDS: &[&str] = &[
    "active",
    "throttled",
    "expiring",
    "needs_relink",
    "revoked",
    "lost_role",
    "app_removed",
    "page_gone",
    "needs_login",
    "uninstalled",
    "shop_gone",
    "frozen",
    "locked",
    "scope_missing",
    "blocked",
];

/// Those of links that wait for nobody.
pub const PASSING: &[&str] = &["active", "throttled", "expiring"];

/// A token is `expiring` from so long before its end, and that is said in the log for the first time.
pub const EXPIRING: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// It is said for the second time.
pub const URGENT: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Parked since when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The reason.
    pub why: ParkReason,
    /// Since when.
    pub since: WallTime,
}

/// The durable health of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Reads are made.
    #[default]
    Active,
    /// A person must act first.
    Parked(Parked),
}

/// What may change a link's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A call with the link's token failed.
    Failed(Disposition),
    /// A check found this out.
    Found(ParkReason),
    /// Meta reported it, whatever a call found before.
    Reported(ParkReason),
    /// The page was linked again.
    Linked,
}

/// What is known beside the durable health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HealthInputs {
    /// When the token ends, as the last check said.
    pub expires_at: Option<WallTime>,
    /// A limit holds the page back until then.
    pub throttled_until: Option<WallTime>,
}

/// Health as lists, metrics and the console show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthView {
    /// `active`, or the word that says what is wrong.
    pub word: &'static str,
    /// What happened.
    pub reason: Option<&'static str>,
    /// What to do.
    pub remedy: Option<&'static str>,
    /// Since when, for what waits for a person.
    pub since: Option<WallTime>,
    /// The end of the throttling, or of the token.
    pub until: Option<WallTime>,
}

impl Health {
    /// Parked for this reason from now on.
    pub fn parked(why: ParkReason, now: WallTime) -> Health {
        Health::Parked(Parked { why, since: now })
    }

    /// The health after this happened.
    #[must_use]
    pub fn after(&self, evidence: Evidence, now: WallTime) -> Health {
        let first = |why: ParkReason| if self.is_active() { Health::parked(why, now) } else { self.clone() };
        match (evidence, self) {
            (Evidence::Linked, _) => Health::Active,
            (Evidence::Failed(disposition), _) => disposition.park_reason().map_or_else(|| self.clone(), first),
            (Evidence::Found(why), _) => first(why),
            (Evidence::Reported(why), Health::Parked(parked)) if parked.why == why => self.clone(),
            (Evidence::Reported(why), _) => Health::parked(why, now),
        }
    }

    /// How it is shown.
    pub fn shown(&self, signs: HealthInputs, now: WallTime) -> HealthView {
        let plain = HealthView { word: "active", reason: None, remedy: None, since: None, until: None };
        let throttled = signs.throttled_until.filter(|until| *until > now);
        let expiring = signs.expires_at.filter(|at| at.since(now) <= EXPIRING);
        match (self, throttled, expiring) {
            (Health::Parked(Parked { why, since }), ..) => HealthView {
                word: why.word(),
                reason: Some(why.reason()),
                remedy: Some(why.remedy()),
                since: Some(*since),
                until: None,
            },
            (Health::Active, Some(_), _) => HealthView {
                word: "throttled",
                reason: Some("Facebook limits how often this page, its person or the app may be asked"),
                remedy: Some("nothing: it goes on by itself"),
                until: throttled,
                ..plain
            },
            (Health::Active, None, Some(_)) => HealthView {
                word: "expiring",
                reason: Some("the token has an end date, and it is near"),
                remedy: Some("the person logs in again before that date"),
                until: expiring,
                ..plain
            },
            (Health::Active, None, None) => plain,
        }
    }

    /// The reason, where a person must act.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Health::Active => None,
            Health::Parked(parked) => Some(parked.why.reason()),
        }
    }

    /// May Graph be called with this link's token?
    pub fn is_active(&self) -> bool {
        matches!(self, Health::Active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_795_341_600_000);

    #[test]
    fn the_first_reason_stays_until_meta_tells_another_or_the_page_is_linked() {
        let (later, gone) = (NOW.plus(Duration::from_secs(9)), Disposition::Park(ParkReason::PageGone));
        let parked = Health::Active.after(Evidence::Found(ParkReason::Expired), NOW);
        assert_eq!(parked.after(Evidence::Failed(gone), later), parked);
        assert_eq!(parked.after(Evidence::Found(ParkReason::RoleLost), later), parked);
        assert_eq!(parked.after(Evidence::Failed(Disposition::Retry), later), parked);
        let reported = parked.after(Evidence::Reported(ParkReason::AppRemoved), later);
        assert_eq!(reported, Health::parked(ParkReason::AppRemoved, later));
        assert_eq!(reported.after(Evidence::Reported(ParkReason::AppRemoved), later.plus(EXPIRING)), reported);
        assert_eq!(reported.after(Evidence::Linked, later), Health::Active);
    }

    #[test]
    fn what_waits_for_a_person_goes_before_what_passes() {
        let signs = HealthInputs { expires_at: Some(NOW.plus(URGENT)), throttled_until: Some(NOW.plus(URGENT)) };
        let parked = Health::parked(ParkReason::RoleLost, NOW);
        assert_eq!(parked.shown(signs, NOW).word, "lost_role");
        let throttled = Health::Active.shown(signs, NOW);
        assert_eq!((throttled.word, throttled.until), ("throttled", signs.throttled_until));
        let over = HealthInputs { throttled_until: Some(NOW), ..signs };
        let expiring = Health::Active.shown(over, NOW);
        assert_eq!((expiring.word, expiring.until), ("expiring", signs.expires_at));
        let far =
            HealthInputs { expires_at: Some(NOW.plus(EXPIRING + Duration::from_millis(1))), throttled_until: None };
        assert_eq!(Health::Active.shown(far, NOW).word, "active");
        let past = HealthInputs { expires_at: Some(WallTime(NOW.0 - 1)), throttled_until: None };
        assert_eq!(Health::Active.shown(past, NOW).word, "expiring");
        assert_eq!(Health::Active.shown(HealthInputs::default(), NOW).remedy, None);
    }

    #[test]
    fn records_of_earlier_versions_are_understood() {
        let read = |text: &str| serde_json::from_str::<Health>(text).unwrap();
        assert_eq!(read("\"active\""), Health::Active);
        let parked = read("{\"parked\":{\"why\":\"permission_lost\",\"since\":5}}");
        assert_eq!(parked, Health::parked(ParkReason::PermissionLost, WallTime(5)));
    }
}
