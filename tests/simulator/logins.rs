//! Logins, which take their time, and persons who leave meanwhile (`src/services/login.rs` and
//! `src/http/routes/deletion.rs` in small). What becomes of them is decided by the daemon's own store.

use std::collections::{BTreeMap, BTreeSet};

use pagesyncd::core::grant::Ticket;
use pagesyncd::core::health::Health;
use pagesyncd::core::model::{AppUserId, Cause, Generation, LinkKey, Secret, WallTime};
use pagesyncd::core::park_reason::ParkReason;
use pagesyncd::store::grants::{LeftAlone, Stored};
use pagesyncd::store::persons::{NewAccount, NewLink};
use pagesyncd::store::stepped::shown;
use pagesyncd::store::unlink::Unlinking;

use super::page::DEAD;
use super::store::{Done, L, Linking};
use super::world::{Event, World};

/// A person by their number.
pub type P = usize;

/// The person as Meta names them.
pub fn id_of(person: P) -> AppUserId {
    (7_000 + person).to_string().parse().expect("digits")
}

/// The text of a token.
fn token_text(token: usize) -> Secret {
    Secret::new(format!("token-{token}"))
}

/// The number of a token of this world.
pub fn token_number(token: &Secret) -> usize {
    token.expose().trim_start_matches("token-").parse().expect("a token of this world")
}

/// What a token came from.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    pub token: usize,
    pub person: P,
    pub granted_at: WallTime,
    /// The position of the login in the order of everything.
    pub begun: u64,
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
    order: u64,
    until: WallTime,
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
        self.figures.hints += 1;
        let theirs = shown(self.store.links_of_person(&id_of(person)));
        let tokens = theirs.iter().filter_map(|(key, generation)| self.token_of(self.number_of(key), *generation));
        let dead = tokens.filter(|token| !self.graph.tokens[*token]).collect();
        let store = self.store.clone();
        self.ask(async move {
            let ok = store.hint_persons(&[id_of(person)]).await.is_ok();
            Done::Hinted { person, dead, tries, ok }
        });
    }

    pub fn hint_again(&mut self, person: P, tries: u32) {
        if tries < 3 {
            let wait = self.chance.between(1_000, 60_000);
            self.at(WallTime(self.now.0 + wait), Event::PermissionsChanged { person, tries: tries + 1 });
        }
    }

    pub fn new_login(&mut self, user: usize, person: P, links: Vec<L>) -> Login {
        let ticket = shown(self.store.ticket());
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
        if self.is_down() {
            return;
        }
        let linking = self.linking(&login);
        let Login { ticket, begun, user, person, links } = login;
        let new = |(l, token, _): &(L, usize, usize)| NewLink {
            page: self.keys[*l].page().expect("a page").clone(),
            token: token_text(*token),
            name: None,
            facebook_user: Some(id_of(person)),
        };
        let new: Vec<NewLink> = links.iter().map(new).collect();
        let account = NewAccount {
            person: id_of(person),
            name: None,
            token: Secret::new("a person's"),
            granted: Vec::new(),
            expires_at: None,
        };
        let account = (!new.is_empty()).then_some(account);
        let user = self.keys[user * self.plan.pages].user;
        let before = self.generations(&links);
        let store = self.store.clone();
        self.ask(async move {
            let stored = store.put_links(ticket, user, account, new, Cause::Link).await.ok();
            Done::Linked(linking, stored)
        });
        let after = self.generations(&links);
        for (((l, token, _), before), after) in links.into_iter().zip(before).zip(after) {
            if let Some(generation) = after.filter(|_| after != before) {
                self.grants.insert((l, generation), Grant { token, person, granted_at: ticket.at, begun });
            }
        }
    }

    fn generations(&self, links: &[(L, usize, usize)]) -> Vec<Option<Generation>> {
        links.iter().map(|(l, ..)| shown(self.store.generation(&self.keys[*l]))).collect()
    }

    /// What is known of a login at the moment of its decision.
    fn linking(&self, login: &Login) -> Linking {
        let Login { begun, user, person, ticket, links } = login;
        let decisions = &self.oracle.decisions;
        let all = || links.iter().map(|(l, ..)| *l);
        let person_ended = decisions.ended(*person, *begun, ticket.at);
        let ended = all().filter(|l| person_ended || decisions.unlinked_since(*l, *begun)).collect();
        let newer = all().filter(|l| self.grant_of(*l).is_some_and(|grant| grant.begun > *begun)).collect();
        let pages: BTreeSet<usize> = all().map(|l| self.page_of(l)).collect();
        let earlier = shown(self.store.links_of_person(&id_of(*person)));
        let earlier = earlier.into_iter().map(|(key, generation)| (self.number_of(&key), generation));
        let absent = earlier.filter(|(l, _)| !all().any(|new| new == *l));
        let (own, others): (Vec<_>, Vec<_>) = absent.partition(|(l, _)| l / self.plan.pages == *user);
        Linking {
            versions: links.iter().map(|(l, _, version)| (*l, *version)).collect(),
            ended,
            newer,
            own,
            others: others.into_iter().filter(|(l, _)| !pages.contains(&self.page_of(*l))).collect(),
        }
    }

    pub fn linked(&mut self, linking: Linking, stored: Option<Stored>) {
        let Some(stored) = stored else { return };
        for (key, why) in stored.left {
            let l = self.number_of(&key);
            let known = if why == LeftAlone::NewerLogin { &linking.newer } else { &linking.ended };
            if !known.contains(&l) {
                self.fail(format!("link {l} was left out of a login that nothing came after ({why:?})"));
            }
        }
        let put: Vec<L> = stored.links.iter().map(|key| self.number_of(key)).collect();
        for (l, version) in linking.versions.into_iter().filter(|(l, _)| put.contains(l)) {
            self.acknowledged(l, version);
        }
        linking.others.iter().for_each(|(l, generation)| shown(self.store.doubt_token(&self.keys[*l], *generation)));
        self.try_links(linking.own);
    }

    /// Earlier links of the person that a login did not bring are tried, each with the token that it has.
    fn try_links(&mut self, tries: Vec<(L, Generation)>) {
        for (l, generation) in tries {
            let took = self.chance.between(20, 3_000);
            self.soon(took, Event::Tried { l, generation });
        }
    }

    pub fn tried(&mut self, l: L, generation: Generation) {
        if self.token_of(l, generation).is_some_and(|token| !self.graph.tokens[token]) {
            self.park(l, Some(generation), DEAD);
        }
    }

    /// The token of this generation.
    pub fn token_of(&self, l: L, generation: Generation) -> Option<usize> {
        self.grants.get(&(l, generation)).map(|grant| grant.token)
    }

    /// The grant that a link stands by.
    pub fn grant_of(&self, l: L) -> Option<Grant> {
        let generation = shown(self.store.generation(&self.keys[l]))?;
        self.grants.get(&(l, generation)).copied()
    }

    pub fn is_parked(&self, l: L) -> bool {
        shown(self.store.view(&self.keys[l])).is_some_and(|view| view.record.health != Health::Active)
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
        if !self.up || self.is_down() {
            return self.again(request);
        }
        let Request { person, leaving, issued_at, .. } = request;
        self.figures.left += 1;
        let order = self.oracle.decisions.next();
        let until = WallTime(issued_at.0.min(self.now.0) + 5 * 60_000);
        self.oracle.decisions.left.entry(person).or_default().push((order, until, leaving, false));
        let theirs: Vec<LinkKey> =
            shown(self.store.links_of_person(&id_of(person))).into_iter().map(|(key, _)| key).collect();
        let (store, left, code) = (self.store.clone(), Left { order, until }, format!("code-{order}"));
        self.ask(async move {
            let (person, issued_at) = (id_of(person), Some(issued_at));
            let ok = match leaving {
                Leaving::Delete => store.forget_person(&person, &code, issued_at).await.is_ok(),
                Leaving::Deauthorize => store.park_person(&person, ParkReason::AppRemoved, issued_at).await.is_ok(),
            };
            Done::Left { request, left, ok }
        });
        for key in theirs {
            if shown(self.store.generation(&key)).is_some() {
                continue;
            }
            let l = self.number_of(&key);
            self.kept.insert(l, false);
            self.check_forgotten(l);
        }
    }

    /// An operator unlinks a page.
    pub fn unlink(&mut self, links: Vec<L>, keep: bool) {
        if self.is_down() {
            return;
        }
        let orders: Vec<(L, u64)> = links.iter().map(|l| (*l, self.oracle.decisions.unlink_decided(*l))).collect();
        let keys: Vec<LinkKey> = links.iter().map(|l| self.keys[*l].clone()).collect();
        let store = self.store.clone();
        self.ask(async move {
            let ok = store.unlink(&keys, Unlinking { keep_objects: keep, revoke: false }).await.is_ok();
            Done::Unlinked { orders, ok }
        });
        for l in links {
            self.kept.insert(l, keep);
            self.check_forgotten(l);
        }
    }

    /// The answer was not 200.
    fn again(&mut self, request: Request) {
        if request.tries < 3 {
            let wait = self.chance.between(1_000, 60_000);
            let request = Request { tries: request.tries + 1, ..request };
            self.at(WallTime(self.now.0 + wait), Event::SignedRequest(request));
        }
    }

    pub fn person_left(&mut self, request: Request, left: &Left, ok: bool) {
        if !ok {
            return self.again(request);
        }
        let known = self.oracle.decisions.left.entry(request.person).or_default();
        known.iter_mut().filter(|(decided, ..)| *decided == left.order).for_each(|left| left.3 = true);
        // A newer one that reaches as far stands for those before it.
        known.retain(|(decided, reached, how, answered)| {
            let implied = *reached <= left.until && (*how == request.leaving || request.leaving == Leaving::Delete);
            *decided >= left.order || !implied || !answered
        });
    }

    /// No link stands, and none is read, of a login that had begun before the person left, or before the link was
    /// removed.
    pub fn check_grants(&mut self) {
        if !self.up || self.is_down() {
            return;
        }
        let wrong = (0..self.keys.len()).find_map(|l| {
            let (grant, decisions) = (self.grant_of(l)?, &self.oracle.decisions);
            if decisions.unlinked.get(&l).is_some_and(|(_, answered)| *answered > grant.begun) {
                return Some(format!("link {l} was unlinked, and stands by a login that had begun before"));
            }
            let mut left = decisions.left.get(&grant.person).into_iter().flatten();
            left.find_map(|(order, until, leaving, answered)| {
                let ended = *answered && *order > grant.begun && grant.granted_at <= *until;
                let stands = *leaving == Leaving::Delete || !self.is_parked(l);
                (ended && stands).then(|| format!("link {l} stands, although its person left ({leaving:?})"))
            })
        });
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// May a link with a good token be parked? Only where its person left shortly before, by Meta's clock.
    pub fn may_be_parked(&self, grant: &Grant) -> bool {
        self.oracle.decisions.ended(grant.person, grant.begun, grant.granted_at)
    }
}
