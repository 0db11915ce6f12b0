//! The check of a link's token: its verdicts, what is kept of it, and the warnings before a token ends. Pure.
//!
//! A source announces neither that a token died nor that its end is near, so each link's token is checked once a day.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::{EXPIRING, ParkReason, URGENT};
use crate::core::model::{Names, WallTime};

/// Between two checks of a link.
pub const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

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
    pub scopes: Names,
    /// Days ahead (14, then 3) for which the token's end was said in the log.
    pub warned_expiry: Option<u8>,
    /// The same for the end of data access.
    pub warned_data_access: Option<u8>,
}

/// What the source says about a token that works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// When the token ends; `None` for never or unknown.
    pub expires_at: Option<WallTime>,
    /// When the app's access to the person's data ends; `None` for never or unknown.
    pub data_access_expires_at: Option<WallTime>,
    /// The permissions that the token carries.
    pub scopes: Vec<String>,
}

/// What a check says of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Sound,
    /// It is dead.
    Dead(ParkReason),
    /// It lives, but seems not to be good for this page any more: one read decides.
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

/// What a read made on a suspicion means: a read that finds the token dead without saying why confirms the suspicion.
pub fn confirmed(suspected: ParkReason, found: ParkReason) -> ParkReason {
    if found == ParkReason::Invalid { suspected } else { found }
}

/// What is kept of a check, and what is to be said because of it.
pub fn learned(seen: &Seen, before: &Checked, now: WallTime) -> (Checked, Vec<Warning>) {
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
    let Seen { expires_at, data_access_expires_at, .. } = *seen;
    let warned_expiry = warn(End::Token, expires_at, before.warned_expiry);
    let warned_data_access = warn(End::DataAccess, data_access_expires_at, before.warned_data_access);
    let scopes = seen.scopes.clone().into();
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

    const NOW: WallTime = WallTime(1_795_341_600_000);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn an_end_is_said_fourteen_and_three_days_ahead_once_each() {
        let ends = NOW.plus(DAY * 20);
        let seen = Seen { expires_at: Some(ends), ..Seen::default() };
        let (mut checked, mut said) = (Checked::default(), Vec::new());
        for day in 0..21 {
            let (next, warnings) = learned(&seen, &checked, NOW.plus(DAY * day));
            said.extend(warnings.into_iter().map(|warning| (day, warning.of)));
            checked = next;
        }
        assert_eq!(said, [(6, End::Token), (17, End::Token)]);
        // A date that moved away is warned of anew.
        let later = Seen { data_access_expires_at: Some(ends.plus(DAY * 60)), ..Seen::default() };
        let (checked, none) = learned(&later, &checked, ends);
        assert_eq!((checked.expires_at, checked.warned_expiry, none), (None, None, vec![]));
        let (checked, one) = learned(&later, &checked, ends.plus(DAY * 58));
        assert_eq!(one, [Warning { of: End::DataAccess, at: ends.plus(DAY * 60) }]);
        assert_eq!(checked.warned_data_access, Some(3));
    }
}
