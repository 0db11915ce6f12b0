//! Which token pair of a shop counts: the one that the store has, or the one that an import brings. Pure.
//!
//! Shopify keeps one pair for each app and shop. An installation ends the pair before it, and a refresh spends the
//! refresh token before it. So of two pairs one is older, and the older one is dead or dies within the hour. A try of an
//! access token does not tell which: the older one is good until its hour is over. Therefore the times decide:
//!
//! 1. the pair of the later installation, where both are known and differ;
//! 2. a pair before an old token that does not expire, because the exchange of one for the other goes one way;
//! 3. the pair whose access token ends later.
//!
//! Where none of them tells, the pair that works stays.

use crate::core::grant::{Better, Decision};
use crate::core::health::Health;
use crate::core::model::WallTime;
use crate::core::park_reason::ParkReason;

/// When a pair was made, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairAge {
    /// When the app was installed that brought the first pair.
    pub granted_at: Option<WallTime>,
    /// When the access token ends.
    pub ends_at: Option<WallTime>,
    /// It has a refresh token. Without one it is an old token, which does not expire.
    pub renewable: bool,
}

impl PairAge {
    /// Is it newer than another? `None` where nothing tells.
    fn is_newer(self, than: PairAge) -> Option<bool> {
        let granted = self.granted_at.zip(than.granted_at).filter(|(this, that)| this != that);
        if let Some((this, that)) = granted {
            return Some(this > that);
        }
        if self.renewable != than.renewable {
            return Some(self.renewable);
        }
        let ends = self.ends_at.zip(than.ends_at).filter(|_| self.renewable);
        ends.map(|(this, that)| this > that)
    }
}

/// The pair of a shop as an import finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingPair {
    /// It works, as far as is known.
    pub works: bool,
    /// Its tokens are those of the line.
    pub same: bool,
    /// How old it is.
    pub age: PairAge,
}

/// Decides on the pair of a line whose shop has one.
pub fn decide(standing: StandingPair, offered: PairAge) -> Decision {
    match offered.is_newer(standing.age) {
        _ if !standing.works => Decision::Put,
        _ if standing.same => Decision::Same,
        Some(true) => Decision::Put,
        Some(false) => Decision::Leave(Better::Newer),
        None => Decision::Leave(Better::OtherUnknown),
    }
}

/// Does a link of this health show that the pair of its shop is dead? A shop that is frozen keeps its pair.
pub fn is_dead(health: &Health) -> bool {
    matches!(health, Health::Parked(parked) if ends_pair(parked.why))
}

/// Does this reason mean that the pair of the shop is dead?
pub fn ends_pair(why: ParkReason) -> bool {
    matches!(why, ParkReason::Uninstalled | ParkReason::RefreshEnded | ParkReason::OldTokenEnded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u64) -> Option<WallTime> {
        Some(WallTime(1_795_341_600_000 + minute * 60_000))
    }

    #[test]
    fn a_pair_that_works_is_replaced_by_a_newer_one_alone() {
        use Decision::{Leave, Put, Same};
        let pair = |granted_at, ends_at| PairAge { granted_at, ends_at, renewable: true };
        let old = |granted_at| PairAge { granted_at, ends_at: None, renewable: false };
        let works = |age| StandingPair { works: true, same: false, age };
        for (standing, offered, decision) in [
            (works(pair(at(5), at(65))), pair(at(6), at(7)), Put),
            (works(pair(at(5), at(65))), pair(at(4), at(99)), Leave(Better::Newer)),
            (works(pair(at(5), at(65))), pair(at(5), at(66)), Put),
            (works(pair(at(5), at(65))), pair(at(5), at(65)), Leave(Better::Newer)),
            (works(pair(at(5), at(65))), pair(None, at(66)), Put),
            (works(pair(at(5), at(65))), pair(None, None), Leave(Better::OtherUnknown)),
            (works(pair(None, None)), pair(at(5), at(65)), Leave(Better::OtherUnknown)),
            (works(pair(at(5), at(65))), old(at(5)), Leave(Better::Newer)),
            (works(pair(at(5), at(65))), old(None), Leave(Better::Newer)),
            (works(old(None)), pair(None, None), Put),
            (works(old(at(5))), old(at(6)), Put),
            (works(old(None)), old(None), Leave(Better::OtherUnknown)),
            (StandingPair { same: true, ..works(pair(at(5), None)) }, pair(at(6), None), Same),
            (StandingPair { works: false, ..works(pair(at(5), at(65))) }, old(None), Put),
            (StandingPair { works: false, same: true, age: pair(None, None) }, pair(None, None), Put),
        ] {
            assert_eq!(decide(standing, offered), decision, "{standing:?} {offered:?}");
        }
    }

    #[test]
    fn a_shop_that_is_frozen_keeps_its_pair() {
        let parked = |why| Health::parked(why, WallTime(5));
        assert!(is_dead(&parked(ParkReason::Uninstalled)) && is_dead(&parked(ParkReason::OldTokenEnded)));
        assert!(!is_dead(&parked(ParkReason::ShopFrozen)) && !is_dead(&Health::Active));
    }
}
