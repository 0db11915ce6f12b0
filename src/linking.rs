//! From a login code to linked pages: exchange, long-lived token, who it is, what was granted, every page; then one
//! transaction in the store, and the pages' actors take over.
//!
//! The order of the exchanges matters: page tokens live as long as the user token they were read with, so the short
//! one is made long-lived before the pages are listed. Who it is must be known, or a deletion could not be honoured
//! later. What was granted is advice for the person, and its absence stops nothing.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::actors::supervisor::SupervisorMsg;
use crate::graph::{Accounts, GraphError, GraphErrorKind, Permission};
use crate::house::House;
use crate::model::{Cause, LinkKey, Millis, PageId, Secret, UserId};
use crate::store::Unavailable;
use crate::store::people::{NewAccount, NewLink};

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
}

impl LinkError {
    /// May the person simply start again?
    pub fn is_transient(&self) -> bool {
        match self {
            LinkError::Graph(e) => matches!(e.kind, GraphErrorKind::Transient | GraphErrorKind::Throttled { .. }),
            LinkError::Store(_) => true,
        }
    }
}

/// Takes a login in. Not to be dropped half way: a code works once.
///
/// # Errors
/// [`LinkError`]; nothing was stored then.
pub async fn link(house: &Arc<House>, user: UserId, code: &Secret) -> Result<Linked, LinkError> {
    let setup = house.setup();
    let exchanged = setup.graph.exchange_code(code, &setup.config.redirect_uri()).await;
    house.note_graph(&exchanged);
    let long = setup.graph.long_lived(&exchanged?.token).await?;
    let (person, granted, accounts) = tokio::join!(
        setup.graph.me(&long.token),
        setup.graph.permissions(&long.token),
        setup.graph.accounts(&long.token),
    );
    let (person, accounts) = (person?, accounts?);
    let granted = granted.unwrap_or_else(|error| {
        tracing::info!(%error, "what was granted cannot be told");
        Vec::new()
    });
    let (pages, new) = sort(&accounts, &person.id);
    let account = NewAccount {
        person: person.id,
        name: person.name,
        token: long.token,
        granted: granted.iter().filter(|p| p.is_granted()).map(|p| p.name.clone()).collect(),
        expires_at: long.expires_in.map(|d| Millis::now().plus(d)),
    };
    let account = (!new.is_empty()).then_some(account);
    let links = house.store.put_links(user, account, new, Cause::Link).await?;
    tracing::info!(%user, pages = links.len(), "pages are linked");
    house.tell_supervisor(SupervisorMsg::Linked(links));
    let missing_permissions = missing(&setup.config.facebook.scopes, &granted);
    Ok(Linked { user, pages, missing_permissions, incomplete: accounts.incomplete })
}

fn sort(accounts: &Accounts, person: &crate::model::AppUserId) -> (Vec<Listed>, Vec<NewLink>) {
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
            None => {
                Some("Facebook gave no access to this page: it was not ticked, or the person's role on it is too weak")
            }
        };
        Listed { id: page.id.clone(), name: page.name.clone(), raw: page.raw.clone(), refused }
    });
    (listed.collect(), new)
}

fn missing(asked: &[String], granted: &[Permission]) -> Vec<String> {
    let has = |scope: &String| granted.iter().any(|p| p.is_granted() && p.name == *scope);
    if granted.is_empty() { Vec::new() } else { asked.iter().filter(|scope| !has(scope)).cloned().collect() }
}
