//! When the access token of a shop is exchanged for another one, and what a refusal means. Pure: time is an argument.
//!
//! An access token lives an hour, and its refresh token for months. An exchange whose answer is lost is made again, and
//! brings the same answer word for word, with the life that it named the first time.

use std::time::Duration;

use super::model::WallTime;
use super::park_reason::ParkReason;

/// An access token with less time than this is exchanged before it is used.
const REFRESH_BEFORE: Duration = Duration::from_secs(12 * 60);
/// An access token with less time than this is not used: a call may take so long.
const TOO_LATE: Duration = Duration::from_secs(60);

/// What is known of the pair of a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub number: u64,
    /// Until when the access token is good.
    pub expires_at: WallTime,
    /// Since when an exchange is under way.
    pub refreshing_since: Option<WallTime>,
}

/// What a pair means for a caller who needs a token now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The token is good.
    None,
    /// It is good for a while, and should be exchanged.
    Soon,
    /// It is not to be used.
    Now,
}

/// Is the access token to be exchanged? `refused` is the number of a pair whose access token was refused.
pub fn need(pair: Standing, refused: Option<u64>, now: WallTime) -> Need {
    if refused == Some(pair.number) || is_over(pair.expires_at, now) {
        Need::Now
    } else if pair.expires_at.since(now) < REFRESH_BEFORE || pair.refreshing_since.is_some() {
        Need::Soon
    } else {
        Need::None
    }
}

/// May a call with this access token come too late?
pub fn is_over(expires_at: WallTime, now: WallTime) -> bool {
    expires_at.since(now) < TOO_LATE
}

/// The end of an access token whose life an answer gave as if it began now. An exchange that was under way before may have
/// brought it then.
pub fn end_of(expires_at: WallTime, refreshing_since: Option<WallTime>, now: WallTime) -> WallTime {
    let age = refreshing_since.map_or(0, |since| now.0.saturating_sub(since.0));
    WallTime(expires_at.0.saturating_sub(age))
}

/// What is known of a pair whose exchange was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Its access token was refused before.
    pub access_too: bool,
    /// It is an old token, and the answer to an earlier exchange of it was lost.
    pub is_lost: bool,
}

/// Why a shop is parked whose exchange was refused for this reason. A refusal of the access token alone says nothing of the
/// app: the clock may have been set, and the token be older than it looks. If the refresh token is refused as well, the
/// app was uninstalled.
pub fn why(found: ParkReason, refused: Refused) -> ParkReason {
    match found {
        ParkReason::RefreshEnded if refused.access_too => ParkReason::Uninstalled,
        ParkReason::Uninstalled if refused.is_lost => ParkReason::OldTokenEnded,
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_795_341_600_000);

    #[test]
    fn a_token_is_exchanged_before_its_end_or_when_it_is_refused() {
        let pair = |minutes: u64, refreshing_since| Standing {
            number: 7,
            expires_at: NOW.plus(Duration::from_secs(minutes * 60)),
            refreshing_since,
        };
        for (pair, refused, wanted) in [
            (pair(60, None), None, Need::None),
            (pair(60, None), Some(6), Need::None),
            (pair(60, None), Some(7), Need::Now),
            (pair(60, Some(NOW)), None, Need::Soon),
            (pair(11, None), None, Need::Soon),
            (pair(0, None), None, Need::Now),
        ] {
            assert_eq!(need(pair, refused, NOW), wanted, "{pair:?} {refused:?}");
        }
        assert!(is_over(NOW, NOW.plus(Duration::from_secs(9))));
    }

    #[test]
    fn the_life_of_a_token_counts_from_the_first_try_to_get_it() {
        let hour = Duration::from_secs(3600);
        assert_eq!(end_of(NOW.plus(hour), None, NOW), NOW.plus(hour));
        assert_eq!(end_of(NOW.plus(hour), Some(WallTime(NOW.0 - 600_000)), NOW), NOW.plus(hour - hour / 6));
        assert_eq!(end_of(NOW.plus(hour), Some(NOW.plus(hour)), NOW), NOW.plus(hour), "a clock that was set back");
    }

    #[test]
    fn an_app_was_uninstalled_where_both_halves_are_refused() {
        let refused = |access_too, is_lost| Refused { access_too, is_lost };
        assert_eq!(why(ParkReason::RefreshEnded, refused(false, false)), ParkReason::RefreshEnded);
        assert_eq!(why(ParkReason::RefreshEnded, refused(true, false)), ParkReason::Uninstalled);
        assert_eq!(why(ParkReason::Uninstalled, refused(true, true)), ParkReason::OldTokenEnded);
        assert_eq!(why(ParkReason::ShopFrozen, refused(true, true)), ParkReason::ShopFrozen);
    }
}
