//! The Graph client: every call this daemon makes to Meta, and nothing else.
//!
//! What it promises:
//!
//! - **No secret leaves by accident.** Tokens travel in `Authorization`, the app secret, codes and exchanged tokens in
//!   form bodies; the `appsecret_proof` is the only derived value in an address. The one exception is `debug_token`,
//!   whose documented form takes the token to look at as a query parameter. Errors never print an address, and
//!   their messages are scrubbed, because Graph echoes tokens.
//! - **An error says what to do.** [`GraphErrorKind`] decides; an answer that is not Graph's is transient, so that a
//!   proxy's error page parks no link.
//! - **No retry inside**, except the exchange of a code when the connection was never made. Retrying belongs to those
//!   who know how urgent a thing is. What is repeated here is only ever a *different* request: with fewer fields, a
//!   smaller page, the next cursor.
//! - **Everything is bounded**: time, the size of an answer, pages followed, fields dropped, calls under way.
//! - **No redirect and no proxy** from the environment is followed: a token goes to `graph_url` and nowhere else.
//!   `paging.next` is therefore never called either; addresses are rebuilt from its cursor.
//!
//! `classify`, `throttle` and `usage` are pure; `gate` waits; `transport` sends; the other files are the
//! calls, and `list` follows the listings among them.

pub mod accounts;
pub mod error;
#[cfg(test)]
pub(crate) mod fake;
pub mod gate;
mod json;
mod list;
pub mod login;
mod pages;
mod settings;
pub mod throttle;
mod transport;
pub mod usage;
pub mod webhooks;

use std::sync::Arc;

pub use accounts::{AccountPage, Accounts};
pub use error::{DeadReason, GraphError, GraphErrorKind, ThrottleScope};
pub use gate::{Gate, GateStatus};
pub use login::{DebugToken, Expiry, GranularScope, Permission, Person, TokenError, UserToken};
pub use pages::PageRead;
pub use settings::GraphSettings;
pub use webhooks::{AppSubscription, Subscribed, Topic};

use crate::core::model::AppUserId;
use crate::metrics::Metrics;

/// The client. Cloning is cheap, and clones share connections.
#[derive(Clone)]
pub struct GraphClient {
    inner: Arc<transport::Inner>,
    /// In whose name pages are called.
    person: Option<AppUserId>,
}

impl std::fmt::Debug for GraphClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphClient").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl GraphClient {
    /// A client for these settings behind this gate. A reload makes a new client and keeps the gate, so that blocks
    /// outlive it.
    ///
    /// # Errors
    /// [`GraphErrorKind::Misconfigured`] when `graph_url` is no http address or TLS cannot be set up.
    pub fn new(settings: GraphSettings, metrics: Arc<Metrics>, gate: Arc<Gate>) -> Result<GraphClient, GraphError> {
        let inner = transport::Inner::new(settings, metrics, gate)?;
        Ok(GraphClient { inner: Arc::new(inner), person: None })
    }

    /// The same client for a page whose token is this person's, where that is known: when the person reaches their
    /// limit, all their pages wait.
    #[must_use]
    pub fn in_name_of(&self, person: Option<&AppUserId>) -> GraphClient {
        GraphClient { inner: self.inner.clone(), person: person.cloned() }
    }

    /// The version that is asked for.
    pub fn version(&self) -> &str {
        &self.inner.settings.version
    }

    /// The gate in front of it.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.inner.gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Secret;
    use crate::core::priority::Priority;

    #[test]
    fn what_decides_does_nothing_else() {
        for (name, source) in [
            ("error", include_str!("graph/error.rs")),
            ("json", include_str!("graph/json.rs")),
            ("throttle", include_str!("graph/throttle.rs")),
            ("usage", include_str!("graph/usage.rs")),
        ] {
            for op in ["tokio", "reqwest", "hyper", "ractor", "sled", "now()"] {
                assert!(!source.contains(op), "{name} speaks of {op}");
            }
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_by_name() {
        for url in ["", "graph.facebook.com", "ftp://graph.facebook.com", "mailto:x@y.z"] {
            let error = GraphClient::new(fake::settings(url), Arc::default(), Gate::new(1)).unwrap_err();
            assert_eq!(error.kind, GraphErrorKind::Misconfigured, "{url}");
            assert!(error.message.contains("graph_url"));
        }
    }

    #[tokio::test]
    async fn every_call_can_be_a_task_of_its_own() {
        let fake = fake::Fake::script([]).await;
        let (client, token) = (fake.client(), Secret::new("EAAtoken"));
        let page: crate::core::model::PageId = "1".parse().unwrap();
        let fields = ["name".to_owned()];
        let task = tokio::spawn(async move {
            let failures = [
                client.accounts(&token).await.is_err(),
                client.permissions(&token).await.is_err(),
                client.exchange_code(&token, "u").await.is_err(),
                client.read_page(&page, &token, &fields, Priority::Prompt).await.is_err(),
                client.subscribed_fields(&page, &token).await.is_err(),
                client.subscribe_page(&page, &token, &fields).await.is_err(),
                client.subscribe_app(Topic::Pages, "u", &token, &fields).await.is_err(),
                client.app_subscriptions().await.is_err(),
            ];
            failures.iter().filter(|failed| **failed).count()
        });
        assert_eq!(task.await.unwrap(), 8);
    }

    #[test]
    fn a_client_shows_no_secret() {
        let client = GraphClient::new(fake::settings("http://localhost/"), Arc::default(), Gate::new(1)).unwrap();
        assert!(!format!("{client:?}").contains(fake::APP_SECRET));
    }
}
