//! The catalogue of a shop, as far as it concerns more than its source: which parts of a link belong to it, the row of a
//! product in the index, and how far the walks over the products have come. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::model::{Generation, Part, WallTime};

/// A shop whose first sweeps fail so often is loaded by reads of each product.
const HOPELESS: u32 = 4;
/// So far a stamp may lie ahead of a clock that was put right since, where its interval is longer.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// Walks over changes overlap by so much.
const OVERLAP: time::Duration = time::Duration::minutes(5);

/// The part with all collections.
pub const COLLECTIONS: &str = "collections";
/// The part that lists all products.
pub const INDEX: &str = "products/index";
const PRODUCT: &str = "products/";

/// A part of a shop's link beside its whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// All collections.
    Collections,
    /// The list of all products.
    Index,
    /// The product of this number.
    Product(u64),
}

impl Piece {
    /// The piece that a part is.
    pub fn of(part: &Part) -> Option<Piece> {
        match part.as_str() {
            COLLECTIONS => Some(Piece::Collections),
            INDEX => Some(Piece::Index),
            other => {
                let number = other.strip_prefix(PRODUCT)?;
                // A number has one spelling.
                number.parse().ok().filter(|id: &u64| id.to_string() == number).map(Piece::Product)
            }
        }
    }

    /// Its part.
    pub fn part(self) -> Part {
        match self {
            Piece::Collections => COLLECTIONS.parse(),
            Piece::Index => INDEX.parse(),
            Piece::Product(id) => format!("{PRODUCT}{id}").parse(),
        }
        .unwrap_or_default()
    }

    /// What an event calls a change of it; `None` for the index, whose changes are those of its products.
    pub fn field(self) -> Option<&'static str> {
        match self {
            Piece::Collections => Some("collections"),
            Piece::Index => None,
            Piece::Product(_) => Some("products"),
        }
    }
}

/// A product in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its title.
    pub title: String,
    /// Its handle.
    pub handle: String,
    /// `ACTIVE`, `ARCHIVED`, `DRAFT` or `UNLISTED`.
    pub status: String,
    /// When it last changed, as Shopify writes it.
    pub updated_at: String,
    /// Its address in the online store, where it has one.
    pub url: Option<String>,
}

/// How far the walks over the products of a link have come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The generation of the link's token for which the rest holds. With another one the shop may have changed unseen.
    pub generation: Generation,
    /// The newest time of a change that a walk has seen, as Shopify writes it.
    pub changed_until: Option<String>,
    /// When the products that changed were asked for last.
    pub polled_at: Option<WallTime>,
    /// When a sweep over all products was complete.
    pub swept_at: Option<WallTime>,
    /// The bulk operation that goes on.
    pub bulk: Option<Bulk>,
    /// Sweeps in a row that were not complete.
    pub failures: u32,
}

/// A bulk operation at Shopify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulk {
    /// Its id.
    pub id: String,
    /// When it was asked for.
    pub started_at: WallTime,
    /// A read with a higher number began after that.
    #[serde(default)]
    pub number: u64,
}

/// What is made of a product of a bulk operation's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is left: a read that is newer was staged.
    Leave,
    /// It is read by itself: it is new, or was deleted since the operation began, which may leave nothing to know.
    Read,
    /// It is staged.
    Stage,
}

/// Decides on a product without a mark, of which the read with the number `staged` was staged last (0: none). `bulk` is the
/// number of the operation. In the first sweep of a shop all products are new.
pub fn keep(staged: u64, bulk: u64, is_first: bool) -> Keep {
    match staged {
        0 if !is_first => Keep::Read,
        newer if newer > bulk => Keep::Leave,
        _ => Keep::Stage,
    }
}

/// A walk over the products of a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Over those that changed.
    Poll,
    /// Over all of them.
    Sweep,
}

/// How long until a walk may be tried again that failed, or that waits for Shopify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// A poll.
    pub poll: Duration,
    /// A sweep.
    pub sweep: Duration,
}

/// How often a shop is walked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two polls.
    pub poll_interval: Duration,
    /// Between two sweeps.
    pub sweep_interval: Duration,
}

impl Progress {
    /// What is known with a token of this generation: nothing, if it was learned with another one.
    pub fn of(self, generation: Generation) -> Progress {
        if self.generation == generation { self } else { Progress { generation, ..Progress::default() } }
    }

    /// The next walk, and how long until then. A sweep that was begun goes on. Polls go on while a sweep takes long or
    /// fails. A shop that was never swept has none before its sweeps have failed for some minutes, since a sweep costs less
    /// than a read of each product.
    pub fn next(&self, pace: Pace, rest: Rest, now: WallTime) -> (Walk, Duration) {
        // A clock that was set back makes no interval longer than twice its length: a walk from a moment that lies ahead by
        // more than that is not relied on.
        let left = |last: WallTime, interval: Duration| {
            let is_ahead = last.since(now) > AHEAD.min(interval);
            if is_ahead { Duration::ZERO } else { last.plus(interval).since(now).min(interval) }
        };
        let swept_at = self.swept_at.filter(|_| self.bulk.is_none());
        let sweep = swept_at.map_or(Duration::ZERO, |at| left(at, pace.sweep_interval)).max(rest.sweep);
        if !self.has_polls() {
            return (Walk::Sweep, sweep);
        }
        let last = self.polled_at.or(self.swept_at);
        let poll = last.map_or(Duration::ZERO, |at| left(at, pace.poll_interval)).max(rest.poll);
        if sweep <= poll { (Walk::Sweep, sweep) } else { (Walk::Poll, poll) }
    }

    /// Is the shop asked for what changed?
    pub fn has_polls(&self) -> bool {
        self.swept_at.is_some() || self.failures >= HOPELESS
    }

    /// The moment from which on changes are asked for, in Shopify's time. Walks overlap, because a change that is being
    /// saved may show late. `None` for all products.
    pub fn changed_since(&self) -> Option<String> {
        let newest = OffsetDateTime::parse(self.changed_until.as_deref()?, &Rfc3339).ok()?;
        newest.saturating_sub(OVERLAP).format(&Rfc3339).ok()
    }

    /// A walk has seen a product that changed at this moment, as Shopify writes it.
    pub fn saw(&mut self, updated_at: &str) {
        // Shopify writes all of them in the same form, in UTC.
        if self.changed_until.as_deref().is_none_or(|newest| newest < updated_at) && !updated_at.is_empty() {
            self.changed_until = Some(updated_at.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_one_part() {
        for piece in [Piece::Collections, Piece::Index, Piece::Product(7), Piece::Product(u64::MAX)] {
            assert_eq!(Piece::of(&piece.part()), Some(piece));
            assert!(!piece.part().is_whole());
        }
        for other in ["products/07", "products/x", "products", "products/1/2", "pages"] {
            assert_eq!(Piece::of(&other.parse().unwrap()), None, "{other}");
        }
        assert_eq!(Piece::of(&Part::whole()), None);
    }

    #[test]
    fn a_shop_is_swept_first_and_polled_between_two_sweeps() {
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
        let pace = Pace { poll_interval: hour, sweep_interval: day };
        let (mut progress, none) = (Progress::default(), Rest::default());
        let at = |hours: u64| WallTime(1_000_000).plus(hour * hours as u32);
        assert_eq!(progress.next(pace, none, at(0)), (Walk::Sweep, Duration::ZERO));
        progress.swept_at = Some(at(0));
        assert_eq!(progress.next(pace, none, at(0)), (Walk::Poll, hour));
        progress.polled_at = Some(at(5));
        assert_eq!(progress.next(pace, none, at(7)), (Walk::Poll, Duration::ZERO));
        progress.polled_at = Some(at(23));
        assert_eq!(progress.next(pace, none, at(23)), (Walk::Sweep, hour));
        let a_little = WallTime(at(23).0 - 30_000);
        assert_eq!(progress.next(pace, none, a_little), (Walk::Poll, hour), "a clock that was set back a little");
        let minute = Duration::from_secs(60);
        let short = Pace { poll_interval: minute, sweep_interval: minute * 2 };
        let ahead = WallTime(at(23).0 - 150_000);
        progress.swept_at = Some(at(23));
        assert_eq!(
            progress.next(short, none, ahead),
            (Walk::Sweep, Duration::ZERO),
            "set back by more than its interval"
        );
        progress.swept_at = Some(at(0));
        let far = (Walk::Sweep, Duration::ZERO);
        assert_eq!(progress.next(pace, none, WallTime(0)), far, "nobody knows how long ago they were");
        progress.bulk = Some(Bulk { id: "gid".into(), started_at: at(23), number: 1 });
        assert_eq!(progress.next(pace, none, at(23)), (Walk::Sweep, Duration::ZERO));
    }

    #[test]
    fn polls_go_on_while_a_sweep_waits_or_fails() {
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
        let pace = Pace { poll_interval: hour, sweep_interval: day };
        let at = |hours: u64| WallTime(1_000_000).plus(hour * hours as u32);
        let rest = |poll: u32, sweep: u32| Rest { poll: hour * poll, sweep: hour * sweep };
        let bulk = Some(Bulk { id: "gid".into(), started_at: at(24), number: 1 });
        let mut progress = Progress { swept_at: Some(at(0)), polled_at: Some(at(23)), bulk, ..Progress::default() };
        assert_eq!(progress.next(pace, rest(0, 6), at(24)), (Walk::Poll, Duration::ZERO));
        assert_eq!(progress.next(pace, rest(2, 6), at(24)), (Walk::Poll, hour * 2));
        assert_eq!(progress.next(pace, rest(2, 1), at(24)), (Walk::Sweep, hour));
        progress = Progress::default();
        assert_eq!(progress.next(pace, rest(0, 6), at(24)), (Walk::Sweep, hour * 6), "the first load");
        progress.failures = HOPELESS;
        assert_eq!(progress.next(pace, rest(0, 6), at(24)), (Walk::Poll, Duration::ZERO), "which is not to be had");
    }

    #[test]
    fn a_file_is_not_taken_over_a_newer_read() {
        for (staged, is_first, wanted) in [
            (0, true, Keep::Stage),
            (0, false, Keep::Read),
            (4, false, Keep::Stage),
            (6, false, Keep::Leave),
            (6, true, Keep::Leave),
        ] {
            assert_eq!(keep(staged, 5, is_first), wanted, "{staged} {is_first}");
        }
    }

    #[test]
    fn walks_overlap() {
        let mut progress = Progress::default();
        assert_eq!(progress.changed_since(), None);
        ["2026-11-22T10:02:00Z", "2026-11-22T09:00:00Z", ""].into_iter().for_each(|at| progress.saw(at));
        assert_eq!(progress.changed_since().as_deref(), Some("2026-11-22T09:57:00Z"));
        progress.changed_until = Some("noon".into());
        assert_eq!(progress.changed_since(), None, "all products, where the moment is not known");
    }
}
