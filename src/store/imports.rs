//! Lines of an import in the store. Which of them may change a link or a login that stands is decided by
//! [`grant`](crate::core::grant).

use std::collections::BTreeMap;

use futures_util::FutureExt;
use futures_util::future::try_join_all;

use super::api::{NewAccount, NewLink, Unavailable};
use super::inner::Store;
use super::records::{LinkRecord, account_context, link_context, open_token};
use super::seal::Keyring;
use super::state::State;
use super::state::linking::Origin;
use super::txn::Txn;
use crate::core::grant::{Better, Decision, Ended, Granted, Offer, Standing, Ticket, Tried, decide};
use crate::core::model::{AppUserId, Cause, LinkKey, UserId, WallTime};

mod shops;

pub use shops::ShopLine;

/// Lines in one decision. The store's lock is held for one decision.
const AT_ONCE: usize = 200;
/// Lines whose decisions wait for the disk together; the committer writes what waits in one transaction, of whichever
/// users the links are.
const TOGETHER: usize = 5 * AT_ONCE;

/// A line with a link.
#[derive(Debug, Clone)]
pub struct LinkLine {
    /// Counted from 1.
    pub line: usize,
    /// The user.
    pub user: UserId,
    /// The link.
    pub link: NewLink,
    /// When its token was granted, as far as the line says.
    pub granted: Granted,
}

impl LinkLine {
    /// The link.
    pub fn key(&self) -> LinkKey {
        LinkKey::new(self.user, self.link.page.clone())
    }
}

/// A line with a login.
#[derive(Debug, Clone)]
pub struct AccountLine {
    /// Counted from 1.
    pub line: usize,
    /// The user.
    pub user: UserId,
    /// The login.
    pub account: NewAccount,
    /// When the person logged in; `None` when the line does not say.
    pub logged_in_at: Option<WallTime>,
}

/// How the tokens of lines were tried.
#[derive(Debug, Clone)]
pub enum Trials {
    /// By line; those that are missing needed no try when it was made.
    Made(BTreeMap<usize, Tried>),
    /// Facebook cannot be asked.
    Impossible,
    /// The operator insists: every line replaces what stands.
    Replace,
}

/// The subject of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A link.
    Link(LinkKey),
    /// A login.
    Account(UserId, AppUserId),
}

/// Why a line changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The grant or the link was ended while the import was under way.
    Ended(Ended),
    /// The link has a better token, or the person a better login.
    Better(Better),
    /// The link got a token while the import was under way.
    Overtaken,
}

/// A line that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftLine {
    /// Counted from 1.
    pub line: usize,
    /// Its link or login.
    pub subject: Subject,
    /// Why it was left as it is.
    pub reason: Reason,
}

/// The outcome of importing lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// The links that were made, or that got the token of their line.
    pub links: Vec<LinkKey>,
    /// The links that have the token of their line since before.
    pub same: Vec<LinkKey>,
    /// Lines that changed nothing.
    pub left: Vec<LeftLine>,
    /// Lines whose links were made with the token pair that their shop has, and why that pair stays.
    pub kept: Vec<LeftLine>,
}

impl Imported {
    /// Adds the outcome of other lines.
    pub fn add(&mut self, other: Imported) {
        let Imported { links, same, left, kept } = other;
        self.links.extend(links);
        self.same.extend(same);
        self.left.extend(left);
        self.kept.extend(kept);
    }

    /// Lines with links that are as they say.
    pub fn count(&self) -> usize {
        self.links.len() + self.same.len()
    }
}

impl Store {
    /// Must the token of this line be tried before it may replace the one that its link has?
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn wants_trial(&self, ticket: Ticket, line: &LinkLine) -> Result<bool, Unavailable> {
        let (keyring, now) = (self.inner.keyring(), self.now());
        let offer = line.offer(None, now);
        self.look(|state| state.decision(&keyring, ticket, line, offer, now) == Decision::Try).await
    }

    /// Makes links of lines and marks each due. A link with a better token is left as it is, and so is everything that
    /// was ended after the ticket was taken. No two of the lines have the same link.
    ///
    /// # Errors
    /// [`Unavailable`]; the lines before the failure stay, and some behind it may.
    pub async fn import_links(
        &self,
        ticket: Ticket,
        lines: &[LinkLine],
        trials: &Trials,
    ) -> Result<Imported, Unavailable> {
        let mut imported = Imported::default();
        for lines in lines.chunks(TOGETHER) {
            let decisions = lines.chunks(AT_ONCE).map(|some| self.import_some(ticket, some, trials).boxed());
            try_join_all(decisions).await?.into_iter().for_each(|some| imported.add(some));
        }
        Ok(imported)
    }

    async fn import_some(&self, ticket: Ticket, lines: &[LinkLine], trials: &Trials) -> Result<Imported, Unavailable> {
        self.commit(|state, txn| {
            let keyring = self.inner.keyring();
            let mut some = Imported::default();
            lines.iter().for_each(|line| state.import_link(txn, &keyring, ticket, line, trials, &mut some));
            state.void_cleanups(txn, &some.links, None);
            some
        })
        .await
    }

    /// Stores logins of lines. Returns the lines that changed nothing.
    ///
    /// # Errors
    /// [`Unavailable`]; the lines before the failure stay.
    pub async fn import_accounts(
        &self,
        ticket: Ticket,
        lines: Vec<AccountLine>,
        replace: bool,
    ) -> Result<Vec<LeftLine>, Unavailable> {
        let (mut lines, mut left) = (lines.into_iter(), Vec::new());
        while lines.len() > 0 {
            let some: Vec<AccountLine> = lines.by_ref().take(AT_ONCE).collect();
            let import = |state: &mut State, txn: &mut Txn| {
                let keyring = self.inner.keyring();
                let imported = some.into_iter().map(|line| state.import_account(txn, &keyring, ticket, line, replace));
                imported.filter_map(Result::err).collect::<Vec<LeftLine>>()
            };
            left.extend(self.commit(import).await?);
        }
        Ok(left)
    }
}

impl LinkLine {
    fn offer(&self, tried: Option<Tried>, now: WallTime) -> Offer {
        // A moment in times to come was written by a clock that was wrong, or by hand.
        let past = |at: &WallTime| *at <= now;
        let granted = Granted { at: self.granted.at.filter(past), by: self.granted.by.filter(past) };
        Offer { granted, tried }
    }
}

impl State {
    /// The link of a line as it stands; `None` when it is not linked.
    fn standing(&self, keyring: &Keyring, line: &LinkLine, now: WallTime) -> Option<Standing> {
        let key = line.key();
        let record = self.links.get(&key)?;
        let token = open_token(keyring, &link_context(&key), &record.token).ok();
        let over = record.checked.expires_at.is_some_and(|at| at <= now);
        Some(Standing {
            healthy: record.health.is_active() && token.is_some() && !over,
            same: token.is_some_and(|token| token == line.link.token),
            granted: Granted { at: record.granted_at, by: Some(record.linked_at) },
        })
    }

    fn import_link(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        ticket: Ticket,
        line: &LinkLine,
        trials: &Trials,
        imported: &mut Imported,
    ) {
        let (key, now) = (line.key(), txn.now());
        let tried = match trials {
            Trials::Made(tried) => tried.get(&line.line).copied(),
            Trials::Impossible | Trials::Replace => Some(Tried::Unknown),
        };
        let offer = line.offer(tried, now);
        let known = self.links.get(&key).and_then(|record| record.facebook_user.clone());
        let person = line.link.facebook_user.as_ref().or(known.as_ref());
        let decision = match trials {
            Trials::Replace => Decision::Put,
            Trials::Made(_) | Trials::Impossible => self.decision(keyring, ticket, line, offer, now),
        };
        let reason = match (self.endings.ended_since(ticket, person, Some(&key), now), decision) {
            (Some(ended), _) => Reason::Ended(ended),
            (None, Decision::Leave(better)) => Reason::Better(better),
            (None, Decision::Try) => Reason::Overtaken,
            (None, Decision::Same) => {
                self.complete_link(txn, &key, line, offer.granted);
                return imported.same.push(key);
            }
            (None, Decision::Put) => {
                let origin = Origin { login: 0, granted: offer.granted };
                self.put_link(txn, keyring, origin, &key, line.link.clone(), Cause::Link);
                return imported.links.push(key);
            }
        };
        imported.left.push(LeftLine { line: line.line, subject: Subject::Link(key), reason });
    }

    /// Of several lines of one import with the same link the last one counts: a token that an earlier line brought is
    /// replaced.
    fn decision(&self, keyring: &Keyring, ticket: Ticket, line: &LinkLine, offer: Offer, now: WallTime) -> Decision {
        let of_this_import = |r: &LinkRecord| r.login == 0 && r.generation.0 > ticket.number;
        if self.links.get(&line.key()).is_none_or(|record| of_this_import(record)) {
            return Decision::Put;
        }
        self.standing(keyring, line, now).map_or(Decision::Put, |standing| decide(standing, offer))
    }

    /// A link has the token of a line: what the line knows beside it is kept, and the page is read again.
    fn complete_link(&mut self, txn: &mut Txn, key: &LinkKey, line: &LinkLine, granted: Granted) {
        self.update_link(txn, key, |record: &mut LinkRecord| {
            record.facebook_user = line.link.facebook_user.clone().or(record.facebook_user.take());
            record.name = record.name.take().or(line.link.name.clone());
            record.granted_at = record.granted_at.or(granted.at);
        });
        self.mark_due(txn, &key.whole(), Cause::Link);
    }

    /// A login that stands is replaced by a newer one alone; of a user token nothing tells more than its time.
    fn import_account(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        ticket: Ticket,
        line: AccountLine,
        replace: bool,
    ) -> Result<(), LeftLine> {
        let AccountLine { line, user, account, logged_in_at } = line;
        let (person, now) = (account.person.clone(), txn.now());
        let left = |reason| Err(LeftLine { line, subject: Subject::Account(user, account.person.clone()), reason });
        if let Some(ended) = self.endings.ended_since(ticket, Some(&person), None, now) {
            return left(Reason::Ended(ended));
        }
        let logged_in_at = logged_in_at.filter(|at| *at <= now);
        if let Some(standing) = self.accounts.get(&(user, person.clone())).filter(|_| !replace) {
            let token = open_token(keyring, &account_context(user, &person), &standing.token);
            match (token, logged_in_at) {
                (Ok(token), _) if token == account.token => return Ok(()),
                (Ok(_), None) => return left(Reason::Better(Better::OtherUnknown)),
                (Ok(_), Some(at)) if at <= standing.logged_in_at => return left(Reason::Better(Better::Newer)),
                _ => {}
            }
        }
        let origin = Origin { login: 0, granted: Granted { at: logged_in_at, by: None } };
        self.put_account(txn, keyring, origin, user, account);
        self.void_cleanups(txn, &[], Some(&person));
        Ok(())
    }
}
