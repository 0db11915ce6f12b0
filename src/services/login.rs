//! From a login code to linked pages: exchange, long-lived token, who it is, what was granted, every page; then one
//! transaction in the store, and the pages' actors take over.
//!
//! The order of the exchanges matters: page tokens live as long as the user token they were read with, so the short
//! one is made long-lived before the pages are listed. Who it is must be known, or a deletion could not be honoured
//! later. What was granted is advice for the person, and its absence stops nothing.
//!
//! A login with other pages ticked takes the unticked ones away, and Meta tells nobody. So what this person linked
//! before and this login does not bring is tried once with its own token. What cannot be used any more is parked and
//! named as lost; what still works (the list may be short) is kept, and so is what could not be tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::context::Context;
use crate::core::grant::Ended;
use crate::core::health::{Health, ParkReason};
use crate::core::model::{AppUserId, Cause, Generation, LinkKey, PageId, Secret, UserId, WallTime};
use crate::core::priority::Priority;
use crate::core::token_check;
use crate::services::token_trial::try_token;
use crate::sources::facebook::graph::{AccountPage, Accounts, GraphError, GraphErrorKind, Permission};
use crate::store::Unavailable;
use crate::store::grants::{LeftAlone, Stored};
use crate::store::persons::{NewAccount, NewLink};

/// Pages of earlier logins that are tried at once, and how long all of that may take.
const TRIED_AT_ONCE: usize = 8;
const TRIED_WITHIN: Duration = Duration::from_secs(4);
/// With one of these a person may subscribe a page to webhooks.
const STRONG_TASKS: [&str; 3] = ["CREATE_CONTENT", "MANAGE", "MODERATE"];
/// New Pages Experience names the same tasks with this in front.
const TWIN: &str = "PROFILE_PLUS_";
const NO_TOKEN: &str = "Facebook gave no access token for this page: the person's role on it is too weak, or they have \
                        it through a portfolio alone; somebody with full control of the page can link it";
/// An operator's unlink came while the login was under way.
pub const UNLINKED: &str = "the page was unlinked while this login was under way; start again to link it";
const WEAK_ROLE: &str = "the person's role on this page (none of create content, manage, moderate) is too weak for \
                         webhooks; changes arrive with the poll, unless somebody with a stronger role links it";

/// A page of the person, linked or not.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The page.
    pub id: PageId,
    /// Its name.
    pub name: Option<String>,
    /// What Graph said of it, without its token.
    pub raw: Map<String, Value>,
    /// Why it could not be linked; `None` when it was.
    pub refused: Option<&'static str>,
    /// Linked, and something about it is not as it should be.
    pub warning: Option<&'static str>,
}

/// What a login changed for the person's links of this user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Linked before, and still.
    pub kept: Vec<PageId>,
    /// Linked now.
    pub added: Vec<PageId>,
    /// Linked before and not usable any more.
    pub lost: Vec<Lost>,
}

/// A page that this person's login does not open any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The page.
    pub page: PageId,
    /// Its name, where known.
    pub name: Option<String>,
    /// Why.
    pub why: ParkReason,
}

/// A login that was taken in.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The platform's user.
    pub user: UserId,
    /// Every page that was listed.
    pub pages: Vec<Listed>,
    /// Permissions that were asked for and not granted.
    pub missing_permissions: Vec<String>,
    /// What could not be listed, in words.
    pub incomplete: Vec<String>,
    /// What became of the links of earlier logins.
    pub changes: Changes,
}

impl Linked {
    /// The links that were made or renewed.
    pub fn links(&self) -> Vec<LinkKey> {
        let linked = self.pages.iter().filter(|page| page.refused.is_none());
        linked.map(|page| LinkKey::new(self.user, page.id.clone())).collect()
    }
}

/// Why a login was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Graph refused or was away.
    #[error("facebook refused the login: {0}")]
    Graph(#[from] GraphError),
    /// The store was away.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// The grant was ended while the login was under way.
    #[error(
        "while this login was under way, the person removed the app on Facebook or was to be forgotten, so nothing was \
         linked"
    )]
    Ended,
    /// A fault of ours; what was stored before it stays.
    #[error("the login broke off inside the daemon")]
    BrokeOff,
}

impl LinkError {
    /// May the person simply start again?
    pub fn is_transient(&self) -> bool {
        match self {
            LinkError::Graph(e) => matches!(e.kind, GraphErrorKind::Transient | GraphErrorKind::Throttled { .. }),
            LinkError::Store(_) | LinkError::BrokeOff => true,
            LinkError::Ended => false,
        }
    }
}

/// Takes a login in. Not to be dropped half way: a code works once. A decision about the person or the links that is
/// made while the login is under way is newer than its grant and overrides it: see [`grant`](crate::core::grant).
///
/// # Errors
/// [`LinkError`]; nothing was stored then.
pub async fn link(context: &Arc<Context>, user: UserId, code: &Secret) -> Result<Linked, LinkError> {
    let setup = context.setup();
    let ticket = context.store.ticket().await?;
    let exchanged = setup.graph.exchange_code(code, &setup.config.redirect_uri()).await;
    context.note_graph(&exchanged);
    let long = setup.graph.long_lived(&exchanged?.token).await?;
    let (person, granted, accounts) = tokio::join!(
        setup.graph.me(&long.token),
        setup.graph.permissions(&long.token),
        setup.graph.accounts(&long.token),
    );
    let (person, accounts) = (person?, accounts?);
    let granted = granted.unwrap_or_else(|error| {
        tracing::info!(
            %error,
            "login [{user}]: the granted permissions cannot be read ({error}), going on without them"
        );
        Vec::new()
    });
    let (mut pages, new) = sort(&accounts, &person.id);
    let before = context.store.links_of_person(&person.id).await?;
    let before: BTreeMap<LinkKey, Generation> = before.into_iter().collect();
    let account = NewAccount {
        person: person.id,
        name: person.name,
        token: long.token,
        granted: granted.iter().filter(|p| p.is_granted()).map(|p| p.name.clone()).collect(),
        expires_at: long.expires_in.map(|d| WallTime::now().plus(d)),
    };
    let account = (!new.is_empty()).then_some(account);
    let Stored { mut links, left } = context.store.put_links(ticket, user, account, new, Cause::Link).await?;
    for (link, why) in left {
        match why {
            LeftAlone::Ended(Ended::Person | Ended::TooOld) => return Err(LinkError::Ended),
            LeftAlone::Ended(Ended::Link) => {
                pages.iter_mut().filter(|p| Some(&p.id) == link.page()).for_each(|p| p.refused = Some(UNLINKED));
            }
            // It is linked, with the newer token.
            LeftAlone::NewerLogin => links.push(link),
        }
    }
    let count = links.len();
    tracing::info!(%user, pages = count, "login [{user}]: {count} pages are linked");
    let changes = compare(context, user, &before, &links).await;
    let missing_permissions = missing(&setup.config.facebook.scopes, &granted);
    Ok(Linked { user, pages, missing_permissions, incomplete: accounts.incomplete, changes })
}

/// Compares this person's earlier links with those of the login. Each earlier link had a token of the generation beside
/// it; news about that token is not applied to a newer one that the link gets meanwhile.
async fn compare(
    context: &Arc<Context>,
    user: UserId,
    before: &BTreeMap<LinkKey, Generation>,
    now: &[LinkKey],
) -> Changes {
    let now: BTreeSet<&LinkKey> = now.iter().collect();
    let absent = before.iter().filter(|(link, _)| !now.contains(link));
    // Ticks are the person's, whichever user of the platform they logged in for.
    let (own, others): (BTreeMap<_, _>, BTreeMap<_, _>) = absent.partition(|(link, _)| link.user == user);
    let elsewhere = |link: &LinkKey| !now.iter().any(|linked| linked.page() == link.page());
    for (link, held) in others.iter().filter(|(link, _)| elsewhere(link)) {
        doubt(context, link, **held).await;
    }
    let mut tries = Vec::new();
    for link in own.keys() {
        tries.push(try_link(context, (*link).clone()).boxed());
    }
    let mut tried = BTreeMap::new();
    let trying = stream::iter(tries).buffer_unordered(TRIED_AT_ONCE).for_each(|(link, outcome)| {
        tried.insert(link, outcome);
        std::future::ready(())
    });
    // What is not known by then is checked by the pages themselves.
    let _ = timeout(TRIED_WITHIN, trying).await;
    let mut changes = Changes::default();
    for link in now {
        let list = if before.contains_key(link) { &mut changes.kept } else { &mut changes.added };
        list.extend(link.page().cloned());
    }
    for (link, held) in own {
        let Some(page) = link.page() else { continue };
        match tried.get(link) {
            Some(Tried::Gone) => {}
            Some(Tried::Lost(why)) => {
                let view = context.store.view(link).await.ok().flatten();
                let name = view.and_then(|view| view.record.name.clone());
                changes.lost.push(Lost { page: page.clone(), name, why: *why });
            }
            Some(Tried::Good) => changes.kept.push(page.clone()),
            Some(Tried::Unknown) | None => {
                changes.kept.push(page.clone());
                doubt(context, link, *held).await;
            }
        }
    }
    changes
}

/// The link is to check its token now.
async fn doubt(context: &Context, link: &LinkKey, held: Generation) {
    if let Err(error) = context.store.doubt_token(link, held).await {
        tracing::info!(
            %link,
            %error,
            "login [{link}]: the check of its token cannot be requested ({error}), the next daily check makes it"
        );
    }
}

enum Tried {
    Good,
    Lost(ParkReason),
    /// It was unlinked meanwhile.
    Gone,
    Unknown,
}

/// Reads a page that this login did not bring, with the token that it has. A link that is parked is not tried.
async fn try_link(context: &Arc<Context>, key: LinkKey) -> (LinkKey, Tried) {
    let link = match context.store.link(&key).await {
        Ok(Some(link)) => link,
        Ok(None) => return (key, Tried::Gone),
        Err(_) => return (key, Tried::Unknown),
    };
    let (Ok(token), Some(page)) = (&link.token, key.page()) else { return (key, Tried::Unknown) };
    if let Health::Parked(parked) = &link.record.health {
        return (key, Tried::Lost(parked.why));
    }
    let person = link.record.facebook_user.as_ref();
    let why = match try_token(context, page, token, person, Priority::Prompt).await {
        Ok(()) => return (key, Tried::Good),
        Err(None) => return (key, Tried::Unknown),
        Err(Some(found)) => token_check::confirmed(ParkReason::Unticked, found),
    };
    let generation = link.record.generation;
    match context.store.park_link(&key, generation, why).await {
        Ok(true) => {}
        // Meanwhile another login gave the link a token, or it was unlinked.
        Ok(false) => {
            let tried = match context.store.generation(&key).await {
                Ok(Some(_)) => Tried::Good,
                Ok(None) => Tried::Gone,
                Err(_) => Tried::Unknown,
            };
            return (key, tried);
        }
        Err(error) => tracing::warn!(
            link = %key,
            %error,
            "page [{key}]: its token is refused, but this cannot be persisted ({error}), the next read parks it"
        ),
    }
    (key, Tried::Lost(why))
}

/// A role that Facebook names and that webhooks do not need.
fn weak_role(page: &AccountPage) -> Option<&'static str> {
    let full = format!("{TWIN}FULL_CONTROL");
    let strong = |task: &String| *task == full || STRONG_TASKS.contains(&task.strip_prefix(TWIN).unwrap_or(task));
    (!page.tasks.is_empty() && !page.tasks.iter().any(strong)).then_some(WEAK_ROLE)
}

fn sort(accounts: &Accounts, person: &AppUserId) -> (Vec<Listed>, Vec<NewLink>) {
    let mut new = Vec::new();
    let listed = accounts.pages.iter().map(|page| {
        let refused = match &page.token {
            Some(token) => {
                new.push(NewLink {
                    page: page.id.clone(),
                    token: token.clone(),
                    name: page.name.clone(),
                    facebook_user: Some(person.clone()),
                });
                None
            }
            None => Some(NO_TOKEN),
        };
        let warning = weak_role(page).filter(|_| refused.is_none());
        Listed { id: page.id.clone(), name: page.name.clone(), raw: page.raw.clone(), refused, warning }
    });
    (listed.collect(), new)
}

fn missing(asked: &[String], granted: &[Permission]) -> Vec<String> {
    let has = |scope: &String| granted.iter().any(|p| p.is_granted() && p.name == *scope);
    if granted.is_empty() { Vec::new() } else { asked.iter().filter(|scope| !has(scope)).cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(id: &str, token: bool, tasks: &[&str]) -> AccountPage {
        AccountPage {
            id: id.parse().unwrap(),
            name: Some(format!("Page {id}")),
            category: None,
            token: token.then(|| Secret::new("EAAPtoken")),
            tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
            raw: Map::new(),
        }
    }

    #[test]
    fn a_page_without_a_token_or_a_strong_role_is_named_with_its_reason() {
        let pages = vec![
            page("1", true, &["ANALYZE", "MODERATE"]),
            page("2", true, &["ANALYZE", "ADVERTISE"]),
            page("3", true, &["PROFILE_PLUS_CREATE_CONTENT"]),
            page("4", true, &["PROFILE_PLUS_ANALYZE"]),
            page("5", true, &["PROFILE_PLUS_FULL_CONTROL"]),
            page("6", true, &[]),
            page("7", false, &["MANAGE"]),
        ];
        let (listed, new) = sort(&Accounts { pages, incomplete: Vec::new() }, &"77".parse().unwrap());
        let warned: Vec<&str> = listed.iter().filter(|p| p.warning.is_some()).map(|p| p.id.as_str()).collect();
        let refused: Vec<&str> = listed.iter().filter(|p| p.refused.is_some()).map(|p| p.id.as_str()).collect();
        assert_eq!((warned, refused, new.len()), (vec!["2", "4"], vec!["7"], 6));
    }
}
