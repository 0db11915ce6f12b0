//! Which pages a person may link.
//!
//! `/me/accounts` is the list, and it is known to be short: pages held through a business portfolio are missing when
//! `business_management` was not granted, and sometimes when it was. So two more sources are asked, and what they
//! give is merged by id: the portfolios (`/me/businesses`, then the owned and the client pages of each), and the page
//! ids in the token's granular scopes. Pages that come without a token are read one by one, which gives it.
//!
//! Only the first page of `/me/accounts` can fail the login. Everything after that is extra: its failures are kept as
//! reasons in [`Accounts::incomplete`]. **An incomplete list says nothing about a page that is not in it.**

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::{Map, Value};

use super::GraphClient;
use super::error::GraphError;
use super::json;
use super::list::Listing;
use super::transport::{Bearer, Call};
use crate::core::model::{PageId, Secret};
use crate::core::priority::Priority;

/// What is asked of each page in a listing.
const FIELDS: &str = "id,name,category,category_list,access_token,tasks";
/// What is asked of a page by itself.
const SINGLE_FIELDS: &str = "id,name,category,access_token,tasks";
/// Portfolios that are looked into.
const MAX_BUSINESSES: usize = 25;
/// Pages that are read by themselves.
const MAX_SINGLES: usize = 200;
/// Extra reads at a time.
const AT_A_TIME: usize = 4;
/// Reasons that are kept.
const MAX_REASONS: usize = 20;

/// A page that a person has to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPage {
    /// The page.
    pub id: PageId,
    /// Its name.
    pub name: Option<String>,
    /// Its category.
    pub category: Option<String>,
    /// The person's token for it; without one it cannot be linked.
    pub token: Option<Secret>,
    /// The person's tasks on the page, an open set of names.
    pub tasks: Vec<String>,
    /// The entry as Graph gave it, without any token.
    pub raw: Map<String, Value>,
}

/// The pages of a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// In the order in which they were found.
    pub pages: Vec<AccountPage>,
    /// Why pages may be missing; empty when everything was read.
    pub incomplete: Vec<String>,
}

#[derive(Default)]
struct Gathering {
    accounts: Accounts,
    places: BTreeMap<PageId, usize>,
    /// Known by id, and worth reading for the token.
    tokenless: BTreeSet<PageId>,
}

impl Gathering {
    fn reason(&mut self, reason: String) {
        let reasons = &mut self.accounts.incomplete;
        if reasons.len() < MAX_REASONS && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    /// Adds a page; one that is known already gains what it lacked.
    fn add(&mut self, page: AccountPage) {
        match self.places.get(&page.id) {
            None => {
                self.places.insert(page.id.clone(), self.accounts.pages.len());
                self.accounts.pages.push(page);
            }
            Some(at) => {
                let known = &mut self.accounts.pages[*at];
                if known.token.is_none() {
                    let AccountPage { name, category, token, tasks, raw, .. } = page;
                    known.token = token;
                    known.name = known.name.take().or(name);
                    known.category = known.category.take().or(category);
                    if known.tasks.is_empty() {
                        known.tasks = tasks;
                    }
                    raw.into_iter().for_each(|(key, value)| {
                        known.raw.entry(key).or_insert(value);
                    });
                }
            }
        }
    }

    /// Adds a listing's entries; from the portfolios, entries without a token are read by themselves later.
    fn add_listing(&mut self, listing: Listing, read_tokenless: bool) {
        for item in listing.items {
            match account_page(item) {
                Some(page) => {
                    if page.token.is_none() && read_tokenless {
                        self.tokenless.insert(page.id.clone());
                    }
                    self.add(page);
                }
                None => self.reason("an entry without a page id was left out".to_owned()),
            }
        }
        if let Some(reason) = listing.cut_short {
            self.reason(reason);
        }
    }
}

impl GraphClient {
    /// The pages of the person whose token this is. Give the long-lived token: the page tokens live as long as the
    /// token they are read with.
    ///
    /// # Errors
    /// Any kind, from the first page of `/me/accounts`.
    pub async fn accounts(&self, user_token: &Secret) -> Result<Accounts, GraphError> {
        let mut found = Gathering::default();
        found.add_listing(self.edge("accounts", &["me", "accounts"], FIELDS, user_token).await?, false);
        self.add_portfolios(user_token, &mut found).await;
        self.add_granted(user_token, &mut found).await;
        self.add_singles(user_token, &mut found).await;
        Ok(found.accounts)
    }

    async fn edge(
        &self,
        name: &'static str,
        path: &[&str],
        fields: &'static str,
        token: &Secret,
    ) -> Result<Listing, GraphError> {
        self.inner.list(|| Call::new(name, Method::GET, path, Bearer::Token(token)).param("fields", fields)).await
    }

    async fn add_portfolios(&self, token: &Secret, found: &mut Gathering) {
        let businesses = match self.edge("businesses", &["me", "businesses"], "id,name", token).await {
            Ok(businesses) => businesses,
            Err(error) => return found.reason(format!("portfolios were not listed: {error}")),
        };
        if let Some(reason) = businesses.cut_short {
            found.reason(reason);
        }
        // A business is a Graph node like a page: only digits may become part of a path.
        let ids = businesses.items.iter().filter_map(|item| json::text(item, "id")?.parse::<PageId>().ok());
        let ids: BTreeSet<PageId> = ids.collect();
        if ids.len() > MAX_BUSINESSES {
            found.reason(format!("only {MAX_BUSINESSES} of {} portfolios were looked into", ids.len()));
        }
        let mut reads = Vec::new();
        for id in ids.into_iter().take(MAX_BUSINESSES) {
            reads.push(self.pages_of_business(id.clone(), "owned_pages", token).boxed());
            reads.push(self.pages_of_business(id, "client_pages", token).boxed());
        }
        let listings: Vec<_> = stream::iter(reads).buffered(AT_A_TIME).collect().await;
        for listing in listings {
            match listing {
                Ok(listing) => found.add_listing(listing, true),
                Err(error) => found.reason(format!("a portfolio was not read: {error}")),
            }
        }
    }

    async fn pages_of_business(&self, id: PageId, edge: &'static str, token: &Secret) -> Result<Listing, GraphError> {
        self.edge(edge, &[id.as_str(), edge], FIELDS, token).await
    }

    async fn add_granted(&self, token: &Secret, found: &mut Gathering) {
        let debugged = match self.debug_token(token, Priority::Prompt).await {
            Ok(debugged) => debugged,
            Err(error) => return found.reason(format!("granted pages were not listed: {error}")),
        };
        // Other scopes name other things: business_management names businesses.
        let of_pages = debugged.granular_scopes.into_iter().filter(|scope| scope.scope.starts_with("pages_"));
        let ids = of_pages.flat_map(|scope| scope.target_ids).filter_map(|id| id.parse::<PageId>().ok());
        for id in ids {
            if !found.places.contains_key(&id) {
                found.tokenless.insert(id);
            }
        }
    }

    async fn add_singles(&self, token: &Secret, found: &mut Gathering) {
        let has_token = |id: &PageId| found.places.get(id).is_some_and(|at| found.accounts.pages[*at].token.is_some());
        let ids: Vec<PageId> = found.tokenless.iter().filter(|id| !has_token(id)).cloned().collect();
        if ids.len() > MAX_SINGLES {
            found.reason(format!("only {MAX_SINGLES} of {} pages without a token were read", ids.len()));
        }
        let ids: Vec<PageId> = ids.into_iter().take(MAX_SINGLES).collect();
        let mut reads = Vec::new();
        for id in &ids {
            reads.push(self.single(token, id.clone()).boxed());
        }
        let pages: Vec<_> = stream::iter(reads).buffered(AT_A_TIME).collect().await;
        for (id, page) in ids.iter().zip(pages) {
            match page {
                Ok(page) => found.add(page),
                Err(error) => found.reason(format!("page {id} was not read: {error}")),
            }
        }
    }

    async fn single(&self, token: &Secret, id: PageId) -> Result<AccountPage, GraphError> {
        let call = Call::new("account_page", Method::GET, &[id.as_str()], Bearer::Token(token));
        let answer = self.inner.send(call.param("fields", SINGLE_FIELDS)).await?;
        let page = account_page(answer).filter(|page| page.id == id);
        page.ok_or_else(|| GraphError::odd("account_page", "the answer is not the page that was asked for"))
    }
}

fn account_page(item: Value) -> Option<AccountPage> {
    let id = json::text(&item, "id")?.parse().ok()?;
    let name = json::text(&item, "name");
    let category = json::text(&item, "category");
    let token = item["access_token"].as_str().filter(|token| !token.is_empty()).map(Secret::new);
    let tasks = json::names(&item, "tasks").into_iter().collect();
    let Value::Object(mut raw) = item else { return None };
    json::strip_tokens(&mut raw);
    Some(AccountPage { id, name, category, token, tasks, raw })
}

#[cfg(test)]
mod tests {
    use super::super::GraphErrorKind;
    use super::super::fake::{Fake, Reply, Seen};
    use super::*;
    use serde_json::json;

    fn entry(id: &str) -> Value {
        json!({"id": id, "name": format!("Page {id}"), "category": "Shop", "access_token": format!("EAA{id}"), "tasks": ["MANAGE"]})
    }

    fn none() -> Reply {
        Reply::Json(200, json!({"data": []}))
    }

    /// Answers `/me/accounts` by `accounts`, and everything else as a person without portfolios would get it.
    async fn fake(accounts: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Fake {
        Fake::start(move |seen| match seen.path.as_str() {
            "/v26.0/me/accounts" => accounts(seen),
            "/v26.0/debug_token" => Reply::Json(200, json!({"data": {"is_valid": true}})),
            _ => none(),
        })
        .await
    }

    async fn accounts(fake: &Fake) -> Result<Accounts, GraphError> {
        fake.client().accounts(&Secret::new("EAAuser")).await
    }

    fn ids(accounts: &Accounts) -> Vec<&str> {
        accounts.pages.iter().map(|page| page.id.as_str()).collect()
    }

    fn next(items: Value, after: &str) -> Reply {
        let next = format!("http://192.0.2.1/v1.0/me/accounts?access_token=EAAuser&after={after}");
        Reply::Json(200, json!({"data": items, "paging": {"cursors": {"before": "b", "after": after}, "next": next}}))
    }

    #[tokio::test]
    async fn pages_are_followed_until_next_is_absent_and_on_our_own_host() {
        let fake = fake(|seen| match seen.param("after") {
            "" => next(json!([entry("1")]), "c1"),
            "c1" => next(json!([]), "c2"),
            "c2" => Reply::Json(
                200,
                json!({"data": [entry("3"), {"id": 4, "name": "weak"}, {"id": "../5"}],
                "paging": {"next": "https://192.0.2.1/x?after=c3&access_token=EAAuser"}}),
            ),
            _ => Reply::Json(200, json!({"data": [entry("6")], "paging": {"cursors": {"after": "c9"}}})),
        })
        .await;
        let found = accounts(&fake).await.unwrap();
        assert_eq!(ids(&found), ["1", "3", "4", "6"]);
        assert_eq!(found.incomplete, ["an entry without a page id was left out"]);
        let first = &found.pages[0];
        assert_eq!(
            (first.token.as_ref().unwrap().expose(), first.tasks.as_slice()),
            ("EAA1", ["MANAGE".to_owned()].as_slice())
        );
        assert_eq!(
            Value::Object(first.raw.clone()),
            json!({"id": "1", "name": "Page 1", "category": "Shop", "tasks": ["MANAGE"]})
        );
        assert!(found.pages[2].token.is_none());
        let seen = fake.seen();
        let listed: Vec<_> = seen.iter().filter(|seen| seen.path.ends_with("/me/accounts")).collect();
        assert_eq!(listed.len(), 4);
        assert!(listed.iter().all(|seen| seen.param("limit") == "100" && !seen.target.contains("EAAuser")));
        assert!(listed.iter().all(|seen| seen.query.contains_key("appsecret_proof")));
    }

    #[tokio::test]
    async fn a_circle_a_lost_cursor_and_a_broken_page_cut_the_list_short() {
        for (reply, reason) in [
            (next(json!([entry("2")]), "c1"), "a listing runs in a circle"),
            (
                Reply::Json(200, json!({"data": [entry("2")], "paging": {"next": "no address"}})),
                "a listing has a next page and no cursor to it",
            ),
            (
                Reply::Text(500, String::new()),
                "graph call accounts failed (transient): the answer is not json [http 500]",
            ),
        ] {
            let fake =
                fake(
                    move |seen| {
                        if seen.param("after").is_empty() { next(json!([entry("1")]), "c1") } else { reply.clone() }
                    },
                )
                .await;
            let found = accounts(&fake).await.unwrap();
            assert_eq!(found.pages[0].id.as_str(), "1");
            assert_eq!(found.incomplete, [reason]);
        }
        let endless = fake(|seen| {
            let n: u64 = seen.param("after").parse().unwrap_or(0);
            next(json!([]), &(n + 1).to_string())
        })
        .await;
        assert_eq!(accounts(&endless).await.unwrap().incomplete, ["a listing has too many pages"]);
    }

    #[tokio::test]
    async fn too_much_data_makes_the_pages_smaller() {
        let fake = fake(|seen| match seen.param("limit") {
            "25" => Reply::Json(200, json!({"data": [entry("1")]})),
            _ => Reply::error(500, 1, "Please reduce the amount of data you're asking for, then retry your request"),
        })
        .await;
        assert_eq!(ids(&accounts(&fake).await.unwrap()), ["1"]);
    }

    #[tokio::test]
    async fn only_the_list_itself_fails_the_login() {
        let dead = fake(|_| Reply::error(400, 190, "dead")).await;
        assert!(matches!(accounts(&dead).await.unwrap_err().kind, GraphErrorKind::TokenDead { .. }));
        for odd in [Reply::Json(200, json!(false)), Reply::Json(200, json!({"data": {}})), Reply::Reset] {
            let fake = fake(move |_| odd.clone()).await;
            assert_eq!(accounts(&fake).await.unwrap_err().kind, GraphErrorKind::Transient);
        }
        let rest = Fake::start(|seen| match seen.path.as_str() {
            "/v26.0/me/accounts" => Reply::Json(200, json!({"data": [entry("1")]})),
            "/v26.0/me/businesses" => Reply::error(403, 200, "(#200) Missing Permission EAAuser"),
            _ => Reply::Reset,
        })
        .await;
        let found = accounts(&rest).await.unwrap();
        assert_eq!((ids(&found), found.incomplete.len()), (vec!["1"], 2));
        assert!(found.incomplete[0].contains("permission_missing") && !found.incomplete[0].contains("EAAuser"));
    }

    #[tokio::test]
    async fn portfolios_and_granted_pages_fill_the_list() {
        let fake = Fake::start(|seen| match seen.path.as_str() {
            "/v26.0/me/accounts" => Reply::Json(200, json!({"data": [entry("1")]})),
            "/v26.0/me/businesses" => Reply::Json(200, json!({"data": [{"id": "900"}, {"id": "../me"}]})),
            "/v26.0/900/owned_pages" => Reply::Json(
                200,
                json!({"data": [entry("1"), entry("2"), {"id": "3", "name": "no token", "link": "l"}]}),
            ),
            "/v26.0/900/client_pages" => {
                Reply::error(400, 100, "(#100) Tried accessing nonexisting field (client_pages)")
            }
            "/v26.0/debug_token" => Reply::Json(
                200,
                json!({"data": {"granular_scopes": [
                {"scope": "pages_show_list", "target_ids": ["1", "3", "4", "5"]},
                {"scope": "pages_read_engagement", "target_ids": ["4"]},
                {"scope": "business_management", "target_ids": ["900"]}]}}),
            ),
            "/v26.0/3" => Reply::Json(200, entry("3")),
            "/v26.0/4" => Reply::Json(200, entry("4")),
            "/v26.0/5" => Reply::Json(200, entry("6")),
            other => panic!("{other} was called"),
        })
        .await;
        let found = accounts(&fake).await.unwrap();
        assert_eq!(ids(&found), ["1", "2", "3", "4"]);
        let tokens: Vec<_> = found.pages.iter().map(|page| page.token.as_ref().unwrap().expose()).collect();
        assert_eq!(tokens, ["EAA1", "EAA2", "EAA3", "EAA4"]);
        assert_eq!((found.pages[2].name.as_deref(), &found.pages[2].raw["link"]), (Some("no token"), &json!("l")));
        assert!(found.pages.iter().all(|page| !page.raw.contains_key("access_token")));
        assert_eq!(found.incomplete.len(), 2, "{:?}", found.incomplete);
        assert_eq!(fake.seen().iter().filter(|seen| seen.path == "/v26.0/4").count(), 1);
    }
}
