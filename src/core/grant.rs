//! Grants in order: which of them a request of Meta's or an operator's decision ends, and what a login or an import
//! that is under way may still store. Pure.
//!
//! # Logins and imports under way
//!
//! Seconds pass between the exchange of a code and the transaction that stores the links. Meanwhile the person may ask
//! to be forgotten or remove the app, and an operator may unlink one of the pages. Such a decision is newer than the
//! grant that the login exchanges, so it must hold although the links would be stored after it. Therefore:
//!
//! * a login takes a [`Ticket`] before it asks Facebook for anything, an import before its lines are read;
//! * each decision that ends grants is noted in [`Endings`], with a number of the same sequence;
//! * the transaction that stores links leaves out everything that was ended after the ticket, and the person is asked to
//!   start again. A login that begins after the decision has a newer ticket and is not concerned.
//!
//! Endings are kept in memory. That suffices, because neither a login nor an import survives the process, and sequence
//! and endings go on when the store is opened again within it. Nothing is undone when the transaction of an ending is
//! refused by the disk: its bytes may have reached it, and a login that starts again in vain does no harm.
//!
//! Memory is bounded: an ending is dropped after [`KEPT_FOR`], and the oldest beyond [`MOST`]. A ticket that is older
//! than an ending that was dropped is refused as a whole, because the subject of that ending is not known any more. An
//! app-scoped id outlives its deletion by that time, in memory alone; it is never written down for this.
//!
//! # Late requests
//!
//! A `signed_request` of Meta's (a deauthorization, a deletion) may arrive late, or a second time, when the person has
//! long logged in again. It names the moment when Meta wrote it, and ends the grants that were made up to then, each by
//! its own time: [`Reach`]. Two clocks are compared there, Meta's and this machine's, and the error that matters is a
//! grant that survives although the person wants to be forgotten. So grants up to [`MARGIN`] after the request are
//! ended as well: five minutes, as far as a clock may be off that still passes for right elsewhere in this program. The
//! price is small. A person who logs in again within five minutes, and whose earlier request only then arrives, has to
//! log in once more.
//!
//! A request cannot be about a grant that was made after it arrived, so one that is dated ahead of this machine's clock
//! counts from its arrival. A grant that is dated ahead of this machine's clock was stamped by a clock that was wrong;
//! its true time is unknown, and the person's wish wins.

//!
//! # Imports
//!
//! An import may bring an older token than the one that a link has, or one that is dead by now: a backup, or the export
//! of an earlier day. It never replaces a token that works by such a one, unless the operator insists. [`decide`] has
//! the rule: times decide where both are known; where they are not, the new token is tried at Facebook first, and
//! without Facebook (an import into the store of a stopped daemon) the link is left as it is.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::model::{AppUserId, LinkKey, WallTime};

/// Grants made up to so long after a request was written are ended by it as well.
pub const MARGIN: Duration = Duration::from_secs(5 * 60);
/// How long an ending is remembered for those that began before it.
pub const KEPT_FOR: Duration = Duration::from_secs(60 * 60);
/// Endings that are remembered at a time.
pub const MOST: usize = 20_000;

/// The position of a login or an import in the order of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The number of its beginning in the store's sequence.
    pub number: u64,
    /// When it began. For a login this is the time of the grant: the code is exchanged next.
    pub at: WallTime,
}

/// Which grants a decision ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Every grant that there is, and every one that is under way.
    All,
    /// Those that were made up to then.
    UpTo(WallTime),
}

impl Reach {
    /// The reach of a decision: an operator's ends everything, one of Meta's that is dated ends what is not newer.
    pub fn of(issued_at: Option<WallTime>, now: WallTime) -> Reach {
        issued_at.map_or(Reach::All, |issued_at| Reach::of_request(issued_at, now))
    }

    /// The reach of a request that Meta dated so and that arrived now.
    pub fn of_request(issued_at: WallTime, now: WallTime) -> Reach {
        Reach::UpTo(issued_at.min(now).plus(MARGIN))
    }

    /// Does it end a grant that was made then?
    pub fn covers(self, granted_at: WallTime, now: WallTime) -> bool {
        match self {
            Reach::All => true,
            Reach::UpTo(until) => granted_at <= until || granted_at > now,
        }
    }
}

/// Why something that is under way must not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The person was forgotten or removed the app.
    Person,
    /// The link was removed.
    Link,
    /// It has been under way for too long to know.
    TooOld,
}

/// The subject of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum About {
    /// Every grant of the person.
    Person(AppUserId),
    /// The link, with any token.
    Link(LinkKey),
    /// The link, with a token of an unknown person: it may be a token of the person who was forgotten.
    LinkOfUnknown(LinkKey),
}

/// A decision that ended grants or links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    number: u64,
    about: About,
    reach: Reach,
    noted_at: WallTime,
}

/// The decisions of late that ended grants or links.
#[derive(Debug, Default)]
pub struct Endings {
    /// By number.
    log: VecDeque<Ending>,
    /// The number of the newest that was dropped; 0 for none.
    dropped: u64,
    /// Those that the other daemons of a cluster have still to learn.
    unshared: Option<Vec<Ending>>,
}

impl Endings {
    /// A person removed the app or is to be forgotten; `links` are those that went with it.
    pub fn note_person(&mut self, number: u64, person: &AppUserId, links: &[LinkKey], reach: Reach, now: WallTime) {
        self.note(Ending { number, about: About::Person(person.clone()), reach, noted_at: now });
        for link in links {
            self.note(Ending { number, about: About::LinkOfUnknown(link.clone()), reach, noted_at: now });
        }
        self.forget(now);
    }

    /// An operator removed a link.
    pub fn note_link(&mut self, number: u64, link: &LinkKey, now: WallTime) {
        self.note(Ending { number, about: About::Link(link.clone()), reach: Reach::All, noted_at: now });
        self.forget(now);
    }

    /// From here on those that are noted are also kept for the other daemons, until they are taken.
    pub fn share(&mut self) {
        self.unshared.get_or_insert_default();
    }

    /// Takes those that were noted since this was asked last.
    pub fn take_unshared(&mut self) -> Vec<Ending> {
        self.unshared.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Others may have noted some that are not known here: whatever began up to this number may be concerned.
    pub fn lose(&mut self, number: u64) {
        self.log.clear();
        self.dropped = self.dropped.max(number);
    }

    /// Another daemon noted this one.
    pub fn follow(&mut self, ending: Ending) {
        self.keep(ending);
    }

    fn note(&mut self, ending: Ending) {
        if let Some(unshared) = &mut self.unshared {
            unshared.push(ending.clone());
        }
        self.keep(ending);
    }

    fn keep(&mut self, ending: Ending) {
        self.log.push_back(ending);
        if self.log.len() > MOST {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.dropped = self.log.pop_front().map_or(self.dropped, |ending| ending.number.max(self.dropped));
    }

    /// Drops the endings that were remembered for long enough.
    pub fn forget(&mut self, now: WallTime) {
        while self.log.front().is_some_and(|ending| now.since(ending.noted_at) > KEPT_FOR) {
            self.drop_oldest();
        }
    }

    /// Was the person's grant, or the link, ended after this ticket was taken? `None` for the link asks about the
    /// person alone.
    pub fn ended_since(
        &self,
        ticket: Ticket,
        person: Option<&AppUserId>,
        link: Option<&LinkKey>,
        now: WallTime,
    ) -> Option<Ended> {
        if ticket.number < self.dropped {
            return Some(Ended::TooOld);
        }
        let first = self.log.partition_point(|ending| ending.number <= ticket.number);
        let newer = self.log.iter().skip(first).filter(|ending| ending.reach.covers(ticket.at, now));
        let ends = newer.filter_map(|ending| match &ending.about {
            About::Person(ended) => (person == Some(ended)).then_some(Ended::Person),
            About::Link(ended) => (link == Some(ended)).then_some(Ended::Link),
            About::LinkOfUnknown(ended) => (person.is_none() && link == Some(ended)).then_some(Ended::Person),
        });
        // The person's wish goes before the operator's.
        ends.reduce(|first, next| if next == Ended::Person { next } else { first })
    }
}

/// When a token was granted, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Granted {
    /// The moment itself.
    pub at: Option<WallTime>,
    /// A moment by which it had been granted: the link was made then.
    pub by: Option<WallTime>,
}

impl Granted {
    fn latest(self) -> Option<WallTime> {
        self.at.or(self.by)
    }

    /// Is it certainly not newer than another?
    fn is_older(self, than: Granted) -> bool {
        self.latest().zip(than.at).is_some_and(|(this, that)| this <= that)
    }

    /// Is it certainly newer than another?
    fn is_newer(self, than: Granted) -> bool {
        self.at.zip(than.latest()).is_some_and(|(this, that)| this > that)
    }
}

/// A link as an import finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its token works, as far as is known.
    pub healthy: bool,
    /// Its token is that of the line.
    pub same: bool,
    /// When its token was granted.
    pub granted: Granted,
}

/// How the try of a token came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It opens its page.
    Works,
    /// Facebook refuses it.
    Refused,
    /// Facebook did not say.
    Unknown,
}

/// A token that an import brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// When it was granted, as its line says.
    pub granted: Granted,
    /// How it was tried; `None` when it was not.
    pub tried: Option<Tried>,
}

/// The action of an import on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The link gets the token.
    Put,
    /// The link has the token.
    Same,
    /// The token is to be tried first.
    Try,
    /// The link is left as it is.
    Leave(Better),
}

/// Why a standing token is better than that of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// It works, and is not older.
    Newer,
    /// It works, and Facebook refuses the other.
    OtherRefused,
    /// It works, and nobody could say whether the other does.
    OtherUnknown,
}

/// Decides on a line whose link exists.
pub fn decide(standing: Standing, offer: Offer) -> Decision {
    let Standing { healthy, same, granted } = standing;
    match offer.tried {
        _ if same && healthy => Decision::Same,
        _ if !healthy => Decision::Put,
        _ if offer.granted.is_older(granted) => Decision::Leave(Better::Newer),
        None => Decision::Try,
        Some(Tried::Works) => Decision::Put,
        Some(Tried::Refused) => Decision::Leave(Better::OtherRefused),
        // Without Facebook the times decide.
        Some(Tried::Unknown) if offer.granted.is_newer(granted) => Decision::Put,
        Some(Tried::Unknown) => Decision::Leave(Better::OtherUnknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::UserId;
    use proptest::prelude::*;

    const NOON: WallTime = WallTime(1_795_341_600_000);

    fn minutes(n: u64) -> WallTime {
        NOON.plus(Duration::from_secs(60 * n))
    }

    fn person(n: u64) -> AppUserId {
        (7700 + n).to_string().parse().unwrap()
    }

    fn link(n: u64) -> LinkKey {
        LinkKey::new(UserId(uuid::Uuid::from_u128(1)), (1000 + n).to_string().parse().unwrap())
    }

    fn ticket(number: u64) -> Ticket {
        Ticket { number, at: NOON }
    }

    #[test]
    fn a_request_ends_the_grants_before_it_and_a_little_after_it() {
        let now = minutes(300);
        let reach = Reach::of_request(minutes(120), now);
        for (granted_at, ended) in [(0, true), (120, true), (125, true), (126, false), (299, false), (300, false)] {
            assert_eq!(reach.covers(minutes(granted_at), now), ended, "minute {granted_at}");
        }
        assert!(Reach::All.covers(minutes(299), now));
    }

    #[test]
    fn wrong_clocks_favour_the_person_who_wants_to_be_forgotten() {
        // Meta's clock is ahead: the request counts from its arrival, and ends everything that there is.
        assert_eq!(Reach::of_request(minutes(14), minutes(10)), Reach::UpTo(minutes(15)));
        assert!(Reach::of_request(minutes(14), minutes(10)).covers(minutes(10), minutes(10)));
        // This machine's clock was ahead when the person logged in.
        assert!(Reach::of_request(minutes(9), minutes(10)).covers(minutes(600), minutes(10)));
    }

    #[test]
    fn the_newer_decision_holds() {
        let mut endings = Endings::default();
        endings.note_person(5, &person(1), &[link(1)], Reach::All, NOON);
        endings.note_link(6, &link(2), NOON);
        let since = |number, who: Option<u64>, what| {
            endings.ended_since(ticket(number), who.map(person).as_ref(), Some(&link(what)), NOON)
        };
        assert_eq!(since(4, Some(1), 9), Some(Ended::Person), "also a page that was not linked before");
        assert_eq!(since(4, Some(2), 1), None, "somebody else's grant for the same link");
        assert_eq!(since(4, None, 1), Some(Ended::Person), "a token of an unknown person for that link");
        assert_eq!(since(4, None, 9), None);
        assert_eq!(since(5, Some(2), 2), Some(Ended::Link));
        assert_eq!(since(4, Some(1), 2), Some(Ended::Person));
        assert_eq!(since(6, Some(1), 2), None, "begun after both");
        assert_eq!(endings.ended_since(ticket(4), Some(&person(1)), None, NOON), Some(Ended::Person));
    }

    #[test]
    fn a_late_request_does_not_end_a_login_that_is_newer() {
        let mut endings = Endings::default();
        endings.note_person(5, &person(1), &[], Reach::of_request(minutes(10), minutes(60)), minutes(60));
        let since =
            |at| endings.ended_since(Ticket { number: 4, at: minutes(at) }, Some(&person(1)), None, minutes(60));
        assert_eq!((since(15), since(16)), (Some(Ended::Person), None));
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_known_any_more_is_refused() {
        let mut endings = Endings::default();
        for number in 1..=MOST as u64 + 3 {
            endings.note_person(number, &person(number), &[], Reach::All, NOON);
        }
        assert_eq!(endings.log.len(), MOST);
        assert_eq!(endings.ended_since(ticket(2), Some(&person(1)), None, NOON), Some(Ended::TooOld));
        assert_eq!(endings.ended_since(ticket(3), Some(&person(9)), None, NOON), Some(Ended::Person));
        assert_eq!(endings.ended_since(ticket(9), Some(&person(9)), None, NOON), None);
        endings.forget(NOON.plus(KEPT_FOR * 2));
        assert_eq!(endings.log.len(), 0);
        let last = MOST as u64 + 3;
        assert_eq!(endings.ended_since(ticket(last), Some(&person(last)), None, NOON), None);
        assert_eq!(endings.ended_since(ticket(last - 1), Some(&person(1)), None, NOON), Some(Ended::TooOld));
    }

    #[test]
    fn an_import_replaces_no_token_that_works_by_an_older_or_a_dead_one() {
        use Decision::{Leave, Put, Same, Try};
        let at = |minute: u64| Granted { at: Some(minutes(minute)), by: Some(minutes(minute + 1)) };
        let by = |minute: u64| Granted { at: None, by: Some(minutes(minute)) };
        let unknown = Granted::default();
        let works = |granted| Standing { healthy: true, same: false, granted };
        for (standing, granted, tried, decision) in [
            (works(at(10)), at(9), None, Leave(Better::Newer)),
            (works(at(10)), at(10), Some(Tried::Works), Leave(Better::Newer)),
            (works(at(10)), by(10), None, Leave(Better::Newer)),
            (works(at(10)), by(11), None, Try),
            (works(at(10)), unknown, None, Try),
            (works(by(10)), at(9), None, Try),
            (works(unknown), unknown, None, Try),
            (works(at(10)), at(11), None, Try),
            (works(at(10)), at(11), Some(Tried::Works), Put),
            (works(at(10)), at(11), Some(Tried::Refused), Leave(Better::OtherRefused)),
            (works(at(10)), at(11), Some(Tried::Unknown), Put),
            (works(by(10)), at(11), Some(Tried::Unknown), Put),
            (works(by(10)), at(9), Some(Tried::Unknown), Leave(Better::OtherUnknown)),
            (works(at(10)), by(11), Some(Tried::Unknown), Leave(Better::OtherUnknown)),
            (works(unknown), unknown, Some(Tried::Works), Put),
            (Standing { same: true, ..works(at(10)) }, unknown, None, Same),
            (Standing { healthy: false, ..works(at(10)) }, at(1), None, Put),
            (Standing { healthy: false, same: true, ..works(at(10)) }, unknown, None, Put),
        ] {
            assert_eq!(decide(standing, Offer { granted, tried }), decision, "{standing:?} {granted:?} {tried:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_was_ended_after_its_ticket_passes(
            decided in prop::collection::vec((0u64..4, any::<bool>(), 0u64..600), 1..60),
            begun in 0u64..60,
            at in 0u64..600,
        ) {
            let (mut endings, now) = (Endings::default(), minutes(600));
            for (n, (who, everything, issued)) in (1u64..).zip(&decided) {
                let reach = if *everything { Reach::All } else { Reach::of_request(minutes(*issued), now) };
                endings.note_person(n, &person(*who), &[], reach, now);
            }
            let ticket = Ticket { number: begun, at: minutes(at) };
            for who in 0..4 {
                let later = decided.iter().skip(begun as usize);
                let ended = later.filter(|(ended, ..)| *ended == who).any(|(_, all, issued)| *all || at <= issued + 5);
                prop_assert_eq!(endings.ended_since(ticket, Some(&person(who)), None, now).is_some(), ended);
            }
        }
    }
}
