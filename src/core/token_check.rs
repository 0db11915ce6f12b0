//! What `debug_token` says of a link's token, judged. Pure.
//!
//! Facebook tells nobody when a token dies or when its date comes near, so each link's token is looked at once a day.
//! The look is advice from one side: `is_valid: false` with a token error is believed. A page that is missing among the
//! granted ids, or a permission that is missing among the scopes, is only *suspicious*, because portfolios give access
//! that these lists do not show; whoever asks confirms it with one read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::{EXPIRING, ParkReason, URGENT};
use crate::core::model::{PageId, WallTime};
use crate::sources::facebook::graph::{DebugToken, Expiry};

/// Between two checks of a link.
pub const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// The permissions without which a page cannot be read.
const NEEDED: [&str; 2] = ["pages_show_list", "pages_read_engagement"];

/// What the checks of a link's token have learned, kept with the link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checked {
    /// When the last check that got an answer was made.
    pub at: Option<WallTime>,
    /// When the token ends; `None` for never or unknown.
    pub expires_at: Option<WallTime>,
    /// When the app's access to the person's data ends, unless they log in again. A warning, no more.
    pub data_access_expires_at: Option<WallTime>,
    /// The permissions that the token carries.
    pub scopes: Vec<String>,
    /// Days ahead (14, then 3) for which the token's end was said in the log.
    pub warned_expiry: Option<u8>,
    /// The same for the end of data access.
    pub warned_data_access: Option<u8>,
}

/// What a check says of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Sound,
    /// It is dead.
    Dead(ParkReason),
    /// It lives, but seems not to be good for this page any more: one read tells.
    Suspect(ParkReason),
    /// Nothing was said of its validity, or something that has nothing to do with tokens; ask again later.
    Unclear,
}

/// Something to be said once, so many days ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    /// Of what.
    pub of: End,
    /// When it ends.
    pub at: WallTime,
}

/// What may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The token.
    Token,
    /// Access to the person's data.
    DataAccess,
}

/// Judges the token of this page.
pub fn judge(seen: &DebugToken, page: &PageId) -> Verdict {
    if seen.is_valid != Some(true) {
        return seen.dead().map_or(Verdict::Unclear, |reason| Verdict::Dead(ParkReason::of_dead(reason)));
    }
    let lacks = |needed: &&&str| !seen.scopes.is_empty() && !seen.scopes.iter().any(|scope| scope == **needed);
    if NEEDED.iter().any(|needed| lacks(&needed)) {
        return Verdict::Suspect(ParkReason::PermissionLost);
    }
    // No ids at all means all pages, not none.
    let limited = seen.granular_scopes.iter().filter(|g| NEEDED.contains(&&*g.scope) && !g.target_ids.is_empty());
    let unticked = limited.into_iter().any(|granted| !granted.target_ids.iter().any(|id| id == page.as_str()));
    if unticked { Verdict::Suspect(ParkReason::Unticked) } else { Verdict::Sound }
}

/// What a read made on a suspicion means: a read that finds the token dead without saying why confirms the suspicion.
pub fn confirmed(suspected: ParkReason, found: ParkReason) -> ParkReason {
    if found == ParkReason::Invalid { suspected } else { found }
}

/// What is kept of a check, and what is to be said because of it.
pub fn learned(seen: &DebugToken, before: &Checked, now: WallTime) -> (Checked, Vec<Warning>) {
    let date = |expiry| match expiry {
        Expiry::At(at) => Some(at),
        Expiry::Never | Expiry::Unknown => None,
    };
    let mut warnings = Vec::new();
    let mut warn = |of, at: Option<WallTime>, said: Option<u8>| {
        let days = at.and_then(|at| days_ahead(at, now));
        if let (Some(days), Some(at)) = (days, at)
            && said.is_none_or(|said| said > days)
        {
            warnings.push(Warning { of, at });
        }
        days
    };
    let expires_at = date(seen.expires_at);
    let data_access_expires_at = date(seen.data_access_expires_at);
    let warned_expiry = warn(End::Token, expires_at, before.warned_expiry);
    let warned_data_access = warn(End::DataAccess, data_access_expires_at, before.warned_data_access);
    let scopes = seen.scopes.clone();
    let checked =
        Checked { at: Some(now), expires_at, data_access_expires_at, scopes, warned_expiry, warned_data_access };
    (checked, warnings)
}

/// Which of the two warnings is due: 14 or 3 days ahead, or none.
fn days_ahead(at: WallTime, now: WallTime) -> Option<u8> {
    let left = at.since(now);
    if left <= URGENT {
        Some(3)
    } else if left <= EXPIRING {
        Some(14)
    } else {
        None
    }
}

impl Checked {
    /// The end of data access, when it is near.
    pub fn data_access_ends(&self, now: WallTime) -> Option<WallTime> {
        self.data_access_expires_at.filter(|at| at.since(now) <= EXPIRING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::facebook::graph::{GranularScope, TokenError};

    const NOW: WallTime = WallTime(1_795_341_600_000);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn page() -> PageId {
        "123".parse().unwrap()
    }

    fn sound() -> DebugToken {
        let scopes = NEEDED.map(str::to_owned).to_vec();
        DebugToken { is_valid: Some(true), scopes, expires_at: Expiry::Never, ..DebugToken::default() }
    }

    fn granted(scope: &str, ids: &[&str]) -> GranularScope {
        GranularScope { scope: scope.into(), target_ids: ids.iter().map(|id| (*id).to_owned()).collect() }
    }

    fn dead(code: Option<i64>, subcode: Option<i64>, message: &str) -> DebugToken {
        let error = Some(TokenError { code, subcode, message: message.into() });
        DebugToken { is_valid: Some(false), error, ..DebugToken::default() }
    }

    #[test]
    fn a_dead_token_is_dead_for_its_reason_and_other_trouble_is_not_death() {
        for (seen, wanted) in [
            (dead(Some(190), Some(460), ""), Verdict::Dead(ParkReason::PasswordChanged)),
            (dead(Some(190), Some(458), ""), Verdict::Dead(ParkReason::AppRemoved)),
            (dead(Some(190), None, ""), Verdict::Dead(ParkReason::Invalid)),
            (
                dead(Some(190), Some(0), "must be granted before impersonating a user's page."),
                Verdict::Dead(ParkReason::Unticked),
            ),
            (dead(Some(2), None, "Service temporarily unavailable"), Verdict::Unclear),
            (dead(None, None, "?"), Verdict::Unclear),
            (DebugToken { is_valid: Some(false), ..DebugToken::default() }, Verdict::Dead(ParkReason::Invalid)),
            (DebugToken::default(), Verdict::Unclear),
            (sound(), Verdict::Sound),
        ] {
            assert_eq!(judge(&seen, &page()), wanted, "{seen:?}");
        }
    }

    #[test]
    fn a_page_that_is_not_among_the_granted_ones_is_suspicious() {
        let with = |granular_scopes| DebugToken { granular_scopes, ..sound() };
        for (scopes, wanted) in [
            (vec![], Verdict::Sound),
            (vec![granted("pages_show_list", &[])], Verdict::Sound),
            (vec![granted("pages_show_list", &["9", "123"])], Verdict::Sound),
            (vec![granted("pages_show_list", &["9"])], Verdict::Suspect(ParkReason::Unticked)),
            (
                vec![granted("pages_show_list", &["123"]), granted("pages_read_engagement", &["9"])],
                Verdict::Suspect(ParkReason::Unticked),
            ),
            (vec![granted("business_management", &["9"])], Verdict::Sound),
        ] {
            assert_eq!(judge(&with(scopes.clone()), &page()), wanted, "{scopes:?}");
        }
        let fewer = DebugToken { scopes: vec!["pages_show_list".into()], ..sound() };
        assert_eq!(judge(&fewer, &page()), Verdict::Suspect(ParkReason::PermissionLost));
        let untold = DebugToken { scopes: Vec::new(), ..sound() };
        assert_eq!(judge(&untold, &page()), Verdict::Sound);
        assert_eq!(confirmed(ParkReason::Unticked, ParkReason::Invalid), ParkReason::Unticked);
        assert_eq!(confirmed(ParkReason::Unticked, ParkReason::RoleLost), ParkReason::RoleLost);
    }

    #[test]
    fn an_end_is_said_fourteen_and_three_days_ahead_once_each() {
        let ends = NOW.plus(DAY * 20);
        let seen = DebugToken { expires_at: Expiry::At(ends), ..sound() };
        let (mut checked, mut said) = (Checked::default(), Vec::new());
        for day in 0..21 {
            let (next, warnings) = learned(&seen, &checked, NOW.plus(DAY * day));
            said.extend(warnings.into_iter().map(|warning| (day, warning.of)));
            checked = next;
        }
        assert_eq!(said, [(6, End::Token), (17, End::Token)]);
        // A date that moved away is warned of anew.
        let later = DebugToken { data_access_expires_at: Expiry::At(ends.plus(DAY * 60)), ..sound() };
        let (checked, none) = learned(&later, &checked, ends);
        assert_eq!((checked.expires_at, checked.warned_expiry, none), (None, None, vec![]));
        let (checked, one) = learned(&later, &checked, ends.plus(DAY * 58));
        assert_eq!(one, [Warning { of: End::DataAccess, at: ends.plus(DAY * 60) }]);
        assert_eq!(checked.warned_data_access, Some(3));
    }
}
