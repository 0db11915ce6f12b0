//! Lines of an import in the store.

use super::core::Core;
use super::grants::{Origin, put_account, put_link};
use super::people::{NewAccount, NewLink};
use super::{Store, Unavailable};
use crate::grant::{Ended, Ticket};
use crate::model::{AppUserId, Cause, LinkKey, Millis, UserId};

/// Lines in one transaction.
const AT_ONCE: usize = 200;

/// A line with a link.
#[derive(Debug, Clone)]
pub struct LinkLine {
    /// Counted from 1.
    pub line: usize,
    /// The user.
    pub user: UserId,
    /// The link.
    pub link: NewLink,
    /// When the person granted it, or when it was linked then; `None` when the line does not say.
    pub granted_at: Option<Millis>,
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
    pub logged_in_at: Option<Millis>,
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

/// What became of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// The links that were made, or that got the token of their line.
    pub links: Vec<LinkKey>,
    /// Lines that changed nothing.
    pub left: Vec<LeftLine>,
}

impl LinkLine {
    /// The link.
    pub fn key(&self) -> LinkKey {
        LinkKey::new(self.user, self.link.page.clone())
    }
}

impl Store {
    /// Makes links of lines, some hundred in a transaction, and marks each due. What was ended after the ticket was taken
    /// is left as it is.
    ///
    /// # Errors
    /// [`Unavailable`]; the lines before the failure stay.
    pub async fn import_links(&self, ticket: Ticket, lines: &[LinkLine]) -> Result<Imported, Unavailable> {
        let mut imported = Imported::default();
        for lines in lines.chunks(AT_ONCE) {
            let some = self.commit(|core| {
                let (keyring, now, mut some) = (self.inner.keyring(), Millis::now(), Imported::default());
                for line in lines {
                    let key = line.key();
                    match core.left_line(ticket, line, &key, now) {
                        Some(reason) => {
                            some.left.push(LeftLine { line: line.line, subject: Subject::Link(key), reason })
                        }
                        None => {
                            let origin = Origin { login: 0, granted_at: line.granted_at };
                            put_link(core, &keyring, origin, &key, line.link.clone(), Cause::Link);
                            some.links.push(key);
                        }
                    }
                }
                core.void_chores(&some.links, None);
                some
            });
            let Imported { links, left } = some.await?;
            imported.links.extend(links);
            imported.left.extend(left);
        }
        Ok(imported)
    }

    /// Stores logins of lines. Returns the lines that changed nothing.
    ///
    /// # Errors
    /// [`Unavailable`]; the lines before the failure stay.
    pub async fn import_accounts(&self, ticket: Ticket, lines: Vec<AccountLine>) -> Result<Vec<LeftLine>, Unavailable> {
        self.commit(|core| {
            let (keyring, now, mut left) = (self.inner.keyring(), Millis::now(), Vec::new());
            for AccountLine { line, user, account, logged_in_at } in lines {
                let person = account.person.clone();
                if let Some(ended) = core.endings.ended_since(ticket, Some(&person), None, now) {
                    let subject = Subject::Account(user, person);
                    left.push(LeftLine { line, subject, reason: Reason::Ended(ended) });
                    continue;
                }
                put_account(core, &keyring, Origin { login: 0, granted_at: logged_in_at }, user, account);
                core.void_chores(&[], Some(&person));
            }
            left
        })
        .await
    }
}

impl Core {
    fn left_line(&self, ticket: Ticket, line: &LinkLine, key: &LinkKey, now: Millis) -> Option<Reason> {
        let standing = self.record(key);
        let person = line.link.facebook_user.as_ref().or(standing.as_ref().and_then(|r| r.facebook_user.as_ref()));
        self.endings.ended_since(ticket, person, Some(key), now).map(Reason::Ended)
    }
}
