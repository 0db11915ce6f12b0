//! The two subscriptions that webhooks need: the app's (where to deliver, once per app) and the page's (that this app
//! wants this page's changes). Only fields in both are delivered.
//!
//! A POST to the page's edge *replaces* its set of fields, and refuses the whole set for one bad field. So the whole
//! union is sent, and refused fields are taken out one at a time until the rest is accepted. Meta calls our handshake
//! *during* the app's POST: the listener must accept connections before.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use super::GraphClient;
use super::error::{GraphError, GraphErrorKind};
use super::json;
use super::transport::{Bearer, Call};
use crate::core::model::{PageId, Secret};
use crate::core::priority::Priority;

/// Refused fields that are taken out before giving up.
const MAX_REFUSED: usize = 24;

/// What became of a page's subscription.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscribed {
    /// The fields that are now subscribed, all of them.
    pub accepted: BTreeSet<String>,
    /// The fields that Graph would not have.
    pub refused: BTreeSet<String>,
}

impl Subscribed {
    /// Leaves out the field that this error refuses; `false` when it names none of those that were asked for.
    fn leave_out_refused(&mut self, error: &GraphError) -> bool {
        let field = match &error.kind {
            GraphErrorKind::FieldRefused { field: Some(field) } => self.accepted.take(&**field),
            _ => None,
        };
        field.is_some_and(|field| self.refused.insert(field))
    }

    /// Nothing is left to ask for, or too much was refused.
    fn is_hopeless(&self) -> bool {
        self.accepted.is_empty() || self.refused.len() > MAX_REFUSED
    }
}

/// The object of an app's subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Changes of pages.
    Pages,
    /// Permissions that persons grant and take back.
    Permissions,
}

impl Topic {
    /// Meta's name for it: the `object`.
    pub fn object(self) -> &'static str {
        match self {
            Topic::Pages => "page",
            Topic::Permissions => "permissions",
        }
    }
}

/// The app's subscription to one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSubscription {
    /// Where Meta delivers.
    pub callback_url: String,
    /// False when Meta gave up on the address, until it is subscribed again.
    pub active: bool,
    /// The fields.
    pub fields: BTreeSet<String>,
}

/// Takes `{"success":true}`, the documented `"true"`, and a bare `true`.
pub(super) fn confirmed(call: &'static str, answer: &Value) -> Result<(), GraphError> {
    let yes = *answer == Value::Bool(true) || json::truth(answer, "success") == Some(true);
    if yes { Ok(()) } else { Err(GraphError::odd(call, "graph did not confirm")) }
}

impl GraphClient {
    /// The fields of this page that this app is subscribed to; `None` when it is not subscribed at all.
    ///
    /// # Errors
    /// Any kind.
    pub async fn subscribed_fields(
        &self,
        page: &PageId,
        token: &Secret,
    ) -> Result<Option<BTreeSet<String>>, GraphError> {
        let path = [page.as_str(), "subscribed_apps"];
        let call = || {
            Call::new("subscribed_fields", Method::GET, &path, Bearer::Token(token))
                .param("fields", "id,name,subscribed_fields")
                .charged_to(page)
                .in_name_of(self.person.as_ref())
                .priority(Priority::Background)
        };
        let listing = self.inner.list(call).await?;
        let own = |item: &&Value| json::text(item, "id").as_deref() == Some(self.inner.settings.app_id.as_str());
        match (listing.items.iter().find(own), listing.cut_short) {
            (Some(item), _) => Ok(Some(json::names(item, "subscribed_fields"))),
            (None, None) => Ok(None),
            (None, Some(reason)) => Err(GraphError::odd("subscribed_fields", &reason)),
        }
    }

    /// Subscribes the page to exactly these fields, less those that Graph refuses.
    ///
    /// # Errors
    /// Any kind; also when every field is refused, with what was said of the last one. No empty set is ever sent.
    pub async fn subscribe_page(
        &self,
        page: &PageId,
        token: &Secret,
        fields: &[String],
    ) -> Result<Subscribed, GraphError> {
        let mut subscribed = Subscribed { accepted: fields.iter().cloned().collect(), ..Subscribed::default() };
        if subscribed.accepted.is_empty() {
            let message = "no field to subscribe to, use unsubscribe_page";
            return Err(GraphError::local("subscribe_page", GraphErrorKind::BadRequest, message));
        }
        let path = [page.as_str(), "subscribed_apps"];
        loop {
            let fields = subscribed.accepted.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let call = Call::new("subscribe_page", Method::POST, &path, Bearer::Token(token))
                .param("subscribed_fields", fields)
                .charged_to(page)
                .in_name_of(self.person.as_ref());
            let mut error = match self.inner.send(call).await {
                Ok(answer) => return confirmed("subscribe_page", &answer).map(|()| subscribed),
                Err(error) => error,
            };
            if !subscribed.leave_out_refused(&error) {
                return Err(error);
            }
            if subscribed.is_hopeless() {
                // All fields need the same permission: it is missing, and no field is at fault.
                if error.code == Some(200) {
                    error.kind = GraphErrorKind::PermissionMissing;
                }
                return Err(error);
            }
        }
    }

    /// Ends the page's subscription.
    ///
    /// # Errors
    /// Any kind.
    pub async fn unsubscribe_page(&self, page: &PageId, token: &Secret) -> Result<(), GraphError> {
        let path = [page.as_str(), "subscribed_apps"];
        let call = Call::new("unsubscribe_page", Method::DELETE, &path, Bearer::Token(token)).charged_to(page);
        confirmed("unsubscribe_page", &self.inner.send(call).await?)
    }

    /// The app's subscriptions, as far as this daemon knows their topics.
    ///
    /// # Errors
    /// Any kind.
    pub async fn app_subscriptions(&self) -> Result<BTreeMap<Topic, AppSubscription>, GraphError> {
        self.read_app_subscriptions("app_subscription", Priority::Background).await
    }

    /// Are address, version, app id and app secret right? Asks for the app's own subscriptions, which needs all four.
    ///
    /// # Errors
    /// Any kind; [`GraphErrorKind::Misconfigured`] when Graph does not know the app by this secret.
    pub async fn probe(&self) -> Result<(), GraphError> {
        self.read_app_subscriptions("probe", Priority::Prompt).await.map(drop)
    }

    /// Subscribes the app to a topic: deliveries go to `callback_url`, which Meta calls before this returns. Fields
    /// that Graph refuses are left out, one at a time.
    ///
    /// # Errors
    /// Any kind; also when every field is refused, with what was said of the last one.
    pub async fn subscribe_app(
        &self,
        topic: Topic,
        callback_url: &str,
        verify_token: &Secret,
        fields: &[String],
    ) -> Result<Subscribed, GraphError> {
        let path = [self.inner.settings.app_id.as_str(), "subscriptions"];
        let mut subscribed = Subscribed { accepted: fields.iter().cloned().collect(), ..Subscribed::default() };
        loop {
            let fields = subscribed.accepted.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let call = Call::new("subscribe_app", Method::POST, &path, Bearer::App)
                .param("object", topic.object())
                .address("callback_url", callback_url)
                .secret("verify_token", verify_token)
                .param("fields", fields)
                .param("include_values", "true");
            let error = match self.inner.send(call).await {
                Ok(answer) => return confirmed("subscribe_app", &answer).map(|()| subscribed),
                Err(error) => error,
            };
            if !subscribed.leave_out_refused(&error) {
                return Err(error);
            }
            if subscribed.is_hopeless() {
                return Err(error);
            }
        }
    }

    async fn read_app_subscriptions(
        &self,
        name: &'static str,
        priority: Priority,
    ) -> Result<BTreeMap<Topic, AppSubscription>, GraphError> {
        let path = [self.inner.settings.app_id.as_str(), "subscriptions"];
        let listing = self.inner.list(|| Call::new(name, Method::GET, &path, Bearer::App).priority(priority)).await?;
        let mut found = BTreeMap::new();
        for topic in [Topic::Pages, Topic::Permissions] {
            let Some(item) = listing.items.iter().find(|item| item["object"] == topic.object()) else { continue };
            let subscription = AppSubscription {
                callback_url: json::text(item, "callback_url").unwrap_or_default(),
                active: json::truth(item, "active").unwrap_or(false),
                fields: json::names(item, "fields"),
            };
            found.insert(topic, subscription);
        }
        match listing.cut_short {
            Some(reason) if !found.contains_key(&Topic::Pages) => Err(GraphError::odd(name, &reason)),
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{APP_ID, APP_SECRET, Fake, Reply};
    use super::*;
    use serde_json::json;

    fn page() -> PageId {
        "123".parse().unwrap()
    }

    fn token() -> Secret {
        Secret::new("EAApage")
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn the_entry_of_this_app_counts_and_no_other() {
        let other = json!({"id": "1", "subscribed_fields": ["feed"]});
        let own = json!({"id": APP_ID, "subscribed_fields": ["name", {"name": "hours"}]});
        let fake = Fake::script([
            Reply::Json(200, json!({"data": [other, own]})),
            Reply::Json(200, json!({"data": [other]})),
            Reply::Json(200, json!({"data": []})),
            Reply::Json(200, json!({"data": [{"id": APP_ID}]})),
            Reply::Json(200, json!({})),
        ])
        .await;
        let client = fake.client();
        for wanted in [Some(set(&["hours", "name"])), None, None, Some(set(&[]))] {
            assert_eq!(client.subscribed_fields(&page(), &token()).await.unwrap(), wanted);
        }
        assert_eq!(client.subscribed_fields(&page(), &token()).await.unwrap_err().kind, GraphErrorKind::Transient);
        let seen = &fake.seen()[0];
        assert_eq!(
            (seen.path.as_str(), seen.param("fields")),
            ("/v26.0/123/subscribed_apps", "id,name,subscribed_fields")
        );
    }

    #[tokio::test]
    async fn refused_fields_are_taken_out_one_at_a_time() {
        let fake = Fake::start(|seen| {
            let fields = seen.param("subscribed_fields");
            if fields.contains("moon") {
                Reply::error(
                    400,
                    100,
                    "(#100) Param subscribed_fields[0] must be one of {feed, mention, name} - got \"moon\"",
                )
            } else if fields.contains("messages") {
                Reply::error(
                    403,
                    200,
                    "(#200) To subscribe to the messages field, one of these permissions is needed: pages_messaging",
                )
            } else {
                Reply::Json(200, json!({"success": "true"}))
            }
        })
        .await;
        let subscribed = fake
            .client()
            .subscribe_page(&page(), &token(), &list(&["name", "moon", "messages", "hours", "name"]))
            .await;
        let wanted = Subscribed { accepted: set(&["hours", "name"]), refused: set(&["messages", "moon"]) };
        assert_eq!(subscribed.unwrap(), wanted);
        let seen = fake.seen();
        let sent: Vec<_> = seen.iter().map(|seen| seen.param("subscribed_fields")).collect();
        assert_eq!(sent, ["hours,messages,moon,name", "hours,messages,name", "hours,name"]);
        let keys: Vec<_> = seen[2].form.keys().map(String::as_str).collect();
        assert_eq!(
            (keys, seen[2].target.as_str()),
            (vec!["appsecret_proof", "subscribed_fields"], "/v26.0/123/subscribed_apps")
        );
    }

    #[tokio::test]
    async fn a_missing_permission_is_not_blamed_on_the_fields() {
        let fake = Fake::start(|seen| {
            let first = seen.param("subscribed_fields").split(',').next().unwrap().to_owned();
            Reply::error(403, 200, &format!("(#200) To subscribe to the {first} field, one of these permissions is needed: pages_manage_metadata"))
        })
        .await;
        let error = fake.client().subscribe_page(&page(), &token(), &list(&["name", "hours"])).await.unwrap_err();
        assert_eq!((error.kind, fake.seen().len()), (GraphErrorKind::PermissionMissing, 2));
        assert!(fake.client().subscribe_page(&page(), &token(), &[]).await.is_err());
        assert_eq!(fake.seen().len(), 2, "an empty set was sent");
    }

    #[tokio::test]
    async fn other_refusals_end_it() {
        let fake = Fake::script([
            Reply::error(400, 100, "(#100) Param subscribed_fields[0] must be one of {feed} - got \"other\""),
            Reply::error(400, 190, "dead"),
            Reply::Json(200, json!({"success": false})),
        ])
        .await;
        for word in ["field_refused", "token_dead", "transient"] {
            let error = fake.client().subscribe_page(&page(), &token(), &list(&["name", "hours"])).await.unwrap_err();
            assert_eq!(error.kind.word(), word);
        }
    }

    #[tokio::test]
    async fn a_page_is_unsubscribed() {
        let fake = Fake::script([Reply::Json(200, json!({"success": true})), Reply::Json(200, json!(true))]).await;
        fake.client().unsubscribe_page(&page(), &token()).await.unwrap();
        fake.client().unsubscribe_page(&page(), &token()).await.unwrap();
        let seen = &fake.seen()[0];
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("DELETE", "/v26.0/123/subscribed_apps"));
    }

    #[tokio::test]
    async fn the_app_is_subscribed_with_values_and_its_own_token() {
        let refusal = "(#100) Param fields[1] must be one of {feed, hours, name} - got \"moon\".";
        let fake = Fake::script([Reply::error(400, 100, refusal), Reply::Json(200, json!({"success": "true"}))]).await;
        let verify = Secret::new("verify me");
        let subscribed = fake
            .client()
            .subscribe_app(Topic::Pages, "https://x.org/facebook/webhook", &verify, &list(&["name", "moon", "hours"]))
            .await;
        let wanted = Subscribed { accepted: set(&["hours", "name"]), refused: set(&["moon"]) };
        assert_eq!(subscribed.unwrap(), wanted);
        let seen = &fake.seen()[1];
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v26.0/4242/subscriptions"));
        for (key, value) in [
            ("object", "page"),
            ("callback_url", "https://x.org/facebook/webhook"),
            ("verify_token", "verify me"),
            ("fields", "hours,name"),
            ("include_values", "true"),
        ] {
            assert_eq!(seen.form[key], value);
        }
        assert_eq!(seen.bearer, Some(format!("{APP_ID}|{APP_SECRET}")));
    }

    /// Graph repeats the address that it could not verify.
    #[tokio::test]
    async fn the_query_of_an_address_shows_in_no_error() {
        let refusal =
            "(#2200) Callback verification failed: URL https://x.org/w?key=k3y-7&hub.mode=subscribe, HTTP 403";
        let fake = Fake::script([Reply::error(400, 2200, refusal), Reply::error(400, 191, refusal)]).await;
        let (url, verify) = ("https://x.org/w?key=k3y-7", Secret::new("verify me"));
        let subscribing = fake.client().subscribe_app(Topic::Pages, url, &verify, &list(&["name"])).await;
        let exchanging = fake.client().exchange_code(&Secret::new("code"), url).await.map(drop);
        for text in [subscribing.unwrap_err().to_string(), format!("{:?}", exchanging.unwrap_err())] {
            assert!(text.contains("x.org") && !text.contains("k3y-7"), "{text}");
        }
        assert_eq!(fake.seen()[0].form["callback_url"], url);
    }

    #[tokio::test]
    async fn the_apps_subscription_is_read() {
        let pages = json!({"object": "page", "callback_url": "https://x.org/w", "active": true,
            "fields": [{"name": "feed", "version": "v26.0"}, {"name": "name"}]});
        let permissions = json!({"object": "permissions", "callback_url": "https://x.org/w", "active": true,
            "fields": [{"name": "connected"}]});
        let users = json!({"object": "user", "callback_url": "https://y.org", "active": true, "fields": []});
        let fake = Fake::script([
            Reply::Json(200, json!({"data": [users, pages, permissions]})),
            Reply::Json(200, json!({"data": [users]})),
            Reply::Json(200, json!({"data": []})),
            Reply::error(400, 190, "Invalid OAuth access token signature."),
            Reply::error(400, 101, "Error validating application."),
        ])
        .await;
        let client = fake.client();
        let wanted = AppSubscription {
            callback_url: "https://x.org/w".to_owned(),
            active: true,
            fields: set(&["feed", "name"]),
        };
        let persons = AppSubscription { fields: set(&["connected"]), ..wanted.clone() };
        let both = [(Topic::Pages, wanted), (Topic::Permissions, persons)].into();
        assert_eq!(client.app_subscriptions().await.unwrap(), both);
        assert_eq!(client.app_subscriptions().await.unwrap(), BTreeMap::new());
        client.probe().await.unwrap();
        assert_eq!(client.probe().await.unwrap_err().kind, GraphErrorKind::Misconfigured);
        assert_eq!(client.probe().await.unwrap_err().kind, GraphErrorKind::Misconfigured);
    }
}
