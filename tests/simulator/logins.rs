//! Logins, which take their time, and people who leave meanwhile: `src/services/login.rs`, `src/store/grants.rs`,
//! `src/store/permissions.rs` and `src/http/routes/deletion.rs` in small. Which grants a decision ends is decided by the daemon's own
//! [`pagesyncd::core::grant`].

use std::collections::{BTreeMap, BTreeSet};

use pagesyncd::core::grant::{Reach, Ticket};
use pagesyncd::core::model::{AppUserId, WallTime};

use super::page::PageMsg;
use super::store::{L, Record};
use super::world::{Event, SupervisorMsg, Waiter, World};

/// A person by their number.
pub type P = usize;

/// The person as Meta names them.
pub fn id_of(person: P) -> AppUserId {
    (7_000 + person).to_string().parse().expect("digits")
}

/// A login whose pages are being listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    ticket: Ticket,
    /// Its position in the order of everything, as seen from outside.
    begun: u64,
    user: usize,
    person: P,
    /// The links, each with its token and the page's version when the login began.
    links: Vec<(L, usize, usize)>,
}

/// How a person leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    Deauthorize,
    Delete,
}

/// A signed request of Meta's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    person: P,
    leaving: Leaving,
    issued_at: WallTime,
    tries: u32,
}

/// The decision of a request, until it is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    request: Request,
    order: u64,
    until: WallTime,
    /// The links that went or were parked, each with its token.
    links: Vec<(L, usize)>,
}

/// All decisions about persons and links, in their order.
#[derive(Debug, Default)]
pub struct Decisions {
    order: u64,
    /// By person: order, the newest grant that is ended, how, and whether that was answered with success.
    left: BTreeMap<P, Vec<(u64, WallTime, Leaving, bool)>>,
    /// By link: when an unlink of it was decided last, and when one was that was answered.
    unlinked: BTreeMap<L, (u64, u64)>,
}

impl Decisions {
    pub fn next(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Was this grant ended by something that was decided after its login had begun?
    fn ended(&self, person: P, begun: u64, granted_at: WallTime) -> bool {
        let newer = |(order, until, ..): &&(u64, WallTime, Leaving, bool)| *order > begun && granted_at <= *until;
        self.left.get(&person).into_iter().flatten().any(|left| newer(&left))
    }

    fn unlinked_since(&self, l: L, begun: u64) -> bool {
        self.unlinked.get(&l).is_some_and(|(decided, _)| *decided > begun)
    }

    pub fn unlink_decided(&mut self, l: L) -> u64 {
        let order = self.next();
        self.unlinked.entry(l).or_default().0 = order;
        order
    }

    pub fn unlink_answered(&mut self, l: L, order: u64) {
        let known = &mut self.unlinked.entry(l).or_default().1;
        *known = order.max(*known);
    }
}

impl World {
    /// A person logs in: the dialog is answered now, and the pages are listed in a while. Pages that are not ticked any
    /// more are taken away at Facebook, for every user.
    pub fn begin_login(&mut self) {
        if !self.up {
            return;
        }
        let users = self.plan.users as u64;
        let user = self.chance.below(users) as usize;
        let person = if self.chance.percent(70) { user } else { self.chance.below(users) as usize };
        let pages: Vec<usize> = (0..self.plan.pages).filter(|_| self.chance.percent(50)).collect();
        if self.chance.percent(30) {
            self.untick(person, &pages);
        }
        let links = pages.into_iter().map(|page| user * self.plan.pages + page).collect();
        let login = self.new_login(user, person, links);
        let took = if self.chance.percent(50) { self.chance.below(60) } else { self.chance.below(6_000) };
        self.soon(took, Event::LoginEnds(Box::new(login)));
    }

    /// A person takes pages away from the app. Facebook may hint at that, soon or late.
    fn untick(&mut self, person: P, ticked: &[usize]) {
        self.graph.untick(person, ticked);
        if self.chance.percent(60) {
            let within = if self.chance.percent(80) { 3_000 } else { 120_000 };
            let wait = self.chance.below(within);
            self.at(WallTime(self.now.0 + wait), Event::PermissionsChanged { person, tries: 0 });
        }
    }

    pub fn permissions_changed(&mut self, person: P, tries: u32) {
        if !self.up {
            return self.hint_again(person, tries);
        }
        let Ok((links, writes)) = self.store.decide(|core| core.hint(person)) else {
            return self.hint_again(person, tries);
        };
        self.figures.hints += 1;
        let dead = |l: &L| self.store.core.records.get(l).map(|r| r.token).filter(|token| !self.graph.tokens[*token]);
        let dead = links.iter().filter_map(dead).collect();
        self.wait(writes, Waiter::Hinted { person, links, dead, tries });
    }

    pub fn hint_again(&mut self, person: P, tries: u32) {
        if tries < 3 {
            let wait = self.chance.between(1_000, 60_000);
            self.at(WallTime(self.now.0 + wait), Event::PermissionsChanged { person, tries: tries + 1 });
        }
    }

    pub fn new_login(&mut self, user: usize, person: P, links: Vec<L>) -> Login {
        let ticket = Ticket { number: self.store.core.next_seq(), at: self.now };
        let begun = self.oracle.decisions.next();
        let links = links
            .into_iter()
            .map(|l| {
                let page = self.page_of(l);
                (l, self.graph.new_token(person, page), self.graph.version(page))
            })
            .collect();
        Login { ticket, begun, user, person, links }
    }

    /// The pages are listed: links are stored, except what was ended meanwhile or has a newer login's token.
    pub fn login_ends(&mut self, login: Login) {
        let Login { ticket, begun, user, person, links } = login;
        let (now, id) = (self.now, id_of(person));
        let brought: BTreeSet<usize> = links.iter().map(|(l, ..)| self.page_of(*l)).collect();
        let others = self.store.core.records.iter().filter(|(l, r)| {
            r.person == person && *l / self.plan.pages != user && !brought.contains(&self.page_of(**l))
        });
        let doubts = others.map(|(l, r)| (*l, r.token)).collect();
        let mut own = self.store.core.records.clone();
        own.retain(|l, r| r.person == person && l / self.plan.pages == user && !links.iter().any(|(new, ..)| new == l));
        let keys = self.keys.clone();
        let decided = self.store.decide(|core| {
            let (mut put, mut left) = (Vec::new(), Vec::new());
            for (l, token, version) in &links {
                let standing = core.records.get(l).copied();
                if core.endings.ended_since(ticket, Some(&id), Some(&keys[*l]), now).is_some() {
                    left.push((*l, None));
                } else if let Some(newer) = standing.filter(|r| r.login > ticket.number && !r.parked) {
                    left.push((*l, Some(newer)));
                } else {
                    let granted_at = ticket.at;
                    let login = ticket.number;
                    let (hint, confirmed, checked) = (None, 0, false);
                    let token = *token;
                    let record =
                        Record { token, parked: false, person, granted_at, login, hint, confirmed, checked, begun };
                    core.put_link(*l, record, now);
                    put.push((*l, *version));
                }
            }
            (put, left)
        });
        let Ok(((put, left), writes)) = decided else { return };
        for (l, newer) in left {
            let decisions = &self.oracle.decisions;
            let right = match newer {
                Some(newer) => newer.begun > begun,
                None => decisions.ended(person, begun, ticket.at) || decisions.unlinked_since(l, begun),
            };
            if !right {
                self.fail(format!("link {l} was left out of a login that nothing came after"));
            }
        }
        let tries = own.into_iter().filter(|(_, r)| !r.parked).map(|(l, r)| (l, r.token)).collect();
        self.wait(writes, Waiter::Linked { links: put, tries, doubts });
    }

    /// Earlier links of the person that a login did not bring are tried, each with the token that it has.
    pub fn try_links(&mut self, tries: Vec<(L, usize)>) {
        for (l, token) in tries {
            let took = self.chance.between(20, 3_000);
            self.soon(took, Event::Tried { l, token });
        }
    }

    pub fn tried(&mut self, l: L, token: usize) {
        if self.graph.tokens[token] {
            return;
        }
        let Ok((holds, writes)) = self.store.decide(|core| core.park(l, Some(token))) else { return };
        self.wait(writes, Waiter::Noted);
        if holds {
            self.tell_page_of(l, PageMsg::Parked);
        }
    }

    pub fn tell_page_of(&mut self, l: L, message: PageMsg) {
        if let Some(instance) = self.directory.get(&l).map(|place| place.instance) {
            self.tell_page(instance, message);
        }
    }

    /// A person removes the app at Facebook: their tokens die now, and Meta says so soon, late, or very late.
    pub fn person_leaves(&mut self) {
        let person = self.chance.below(self.plan.users as u64) as usize;
        let leaving = if self.chance.percent(50) { Leaving::Delete } else { Leaving::Deauthorize };
        self.untick(person, &[]);
        let wait = match self.chance.below(10) {
            0..=5 => self.chance.below(3_000),
            6 | 7 => self.chance.below(400_000),
            _ => self.chance.between(360_000, 4_000_000),
        };
        let request = Request { person, leaving, issued_at: self.now, tries: 0 };
        self.at(WallTime(self.now.0 + wait), Event::SignedRequest(request));
    }

    pub fn signed_request(&mut self, request: Request) {
        if !self.up {
            return self.again(request);
        }
        let Request { person, leaving, issued_at, .. } = request;
        let (now, id) = (self.now, id_of(person));
        let reach = Reach::of_request(issued_at, now);
        let theirs = self.store.core.records.iter().filter(|(_, r)| r.person == person);
        let links: Vec<(L, usize)> =
            theirs.filter(|(_, r)| reach.covers(r.granted_at, now)).map(|(l, r)| (*l, r.token)).collect();
        let keys: Vec<_> = links.iter().map(|(l, _)| self.keys[*l].clone()).collect();
        let decided = self.store.decide(|core| {
            for (l, token) in &links {
                match leaving {
                    Leaving::Delete => drop(core.remove_link(*l, false, now)),
                    Leaving::Deauthorize => drop(core.park(*l, Some(*token))),
                }
            }
            let number = core.next_seq();
            let gone = if leaving == Leaving::Delete { keys.as_slice() } else { &[] };
            core.endings.note_person(number, &id, gone, reach, now);
            core.wait_for_queue();
        });
        let Ok(((), writes)) = decided else { return self.again(request) };
        self.figures.left += 1;
        let order = self.oracle.decisions.next();
        let until = WallTime(issued_at.0.min(now.0) + 5 * 60_000);
        self.oracle.decisions.left.entry(person).or_default().push((order, until, leaving, false));
        if leaving == Leaving::Delete {
            links.iter().for_each(|(l, _)| self.check_forgotten(*l));
        }
        self.wait(writes, Waiter::Left(Left { request, order, until, links }));
    }

    /// The answer was not 200.
    fn again(&mut self, request: Request) {
        if request.tries < 3 {
            let wait = self.chance.between(1_000, 60_000);
            let request = Request { tries: request.tries + 1, ..request };
            self.at(WallTime(self.now.0 + wait), Event::SignedRequest(request));
        }
    }

    pub fn person_left(&mut self, left: Left, ok: bool) {
        let Left { request, order, until, links } = left;
        if !ok {
            return self.again(request);
        }
        let known = self.oracle.decisions.left.entry(request.person).or_default();
        known.iter_mut().filter(|(decided, ..)| *decided == order).for_each(|left| left.3 = true);
        // A newer one that reaches as far stands for those before it.
        known.retain(|(decided, reached, how, answered)| {
            let implied = *reached <= until && (*how == request.leaving || request.leaving == Leaving::Delete);
            *decided >= order || !implied || !answered
        });
        match request.leaving {
            Leaving::Delete => {
                let links = links.into_iter().map(|(l, _)| l).collect();
                self.tell_supervisor(SupervisorMsg::Unlinked(links));
            }
            Leaving::Deauthorize => {
                links.into_iter().for_each(|(l, _)| self.tell_page_of(l, PageMsg::Parked));
            }
        }
    }

    /// No link stands, and none is read, of a login that had begun before the person left, or before the link was
    /// removed.
    pub fn check_grants(&mut self) {
        if self.store.core.down || !self.up {
            return;
        }
        let decisions = &self.oracle.decisions;
        let wrong = self.store.core.records.iter().find_map(|(l, r)| {
            if decisions.unlinked.get(l).is_some_and(|(_, answered)| *answered > r.begun) {
                return Some(format!("link {l} was unlinked, and stands by a login that had begun before"));
            }
            let mut left = decisions.left.get(&r.person).into_iter().flatten();
            left.find_map(|(order, until, leaving, answered)| {
                let ended = *answered && *order > r.begun && r.granted_at <= *until;
                let stands = *leaving == Leaving::Delete || !r.parked;
                (ended && stands).then(|| format!("link {l} stands, although its person left ({leaving:?})"))
            })
        });
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// May a link with a good token be parked? Only where its person left shortly before, by Meta's clock.
    pub fn may_be_parked(&self, record: &Record) -> bool {
        self.oracle.decisions.ended(record.person, record.begun, record.granted_at)
    }
}
