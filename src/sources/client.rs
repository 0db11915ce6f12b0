//! The one interface to a source for everything that is about a link: pages' actors, cleanups and the uploader. Logins
//! differ from source to source, so [`services`](crate::services) call the source's own client for them.

use std::collections::BTreeSet;

use super::api::{Reading, SourceError, Subscription, Target, TokenState};
use super::facebook::graph::GraphClient;
use super::facebook::{link, page_data};
use super::shopify::{self, ShopifyClient};
use crate::core::cleanup::Cleanup;
use crate::core::disposition::Disposition;
use crate::core::fields::Fields;
use crate::core::model::{Cause, Secret, Source};
use crate::core::priority::Priority;

/// The client of one source. Cloning is cheap, and clones share connections.
#[derive(Debug, Clone)]
pub enum SourceClient {
    /// The Graph API.
    Facebook(GraphClient),
    /// Shopify's Admin API; `None` when Shopify is off.
    Shopify(Option<ShopifyClient>),
}

/// Shopify is off, and there are links of shops from a time when it was not.
fn off() -> SourceError {
    SourceError {
        disposition: Disposition::Misconfigured,
        answered: false,
        is_general: true,
        is_reached: false,
        text: "shopify.client_id is not set".to_owned(),
    }
}

fn on(client: &Option<ShopifyClient>) -> Result<&ShopifyClient, SourceError> {
    client.as_ref().ok_or_else(off)
}

impl SourceClient {
    /// Reads the object of a link. Of its data only `fields` are asked for: the fields of a page, the parts of a shop; `cause` is noted in the object.
    ///
    /// # Errors
    /// [`SourceError`] when the read did not bring all of it.
    pub async fn read(
        &self,
        target: Target<'_>,
        fields: &[String],
        cause: Cause,
        priority: Priority,
    ) -> Result<Reading, SourceError> {
        match self {
            SourceClient::Facebook(graph) => link::read(graph, target, fields, cause, priority).await,
            SourceClient::Shopify(client) => shopify::link::read(on(client)?, target, fields, cause).await,
        }
    }

    /// Compares the link's webhook subscription with what is wanted, and completes it when something is missing.
    ///
    /// # Errors
    /// [`SourceError`]. It parks the link only when the token is dead: a subscription that is refused says nothing
    /// about reads.
    pub async fn ensure_subscription(
        &self,
        target: Target<'_>,
        wanted: &BTreeSet<String>,
    ) -> Result<Subscription, SourceError> {
        match self {
            SourceClient::Facebook(graph) => link::ensure_subscription(graph, target, wanted).await,
            SourceClient::Shopify(client) => shopify::link::ensure_subscription(on(client)?, target, wanted).await,
        }
    }

    /// Asks how the link's token is.
    ///
    /// # Errors
    /// [`SourceError`] when the source could not be asked; says nothing about the token.
    pub async fn check_token(&self, target: Target<'_>) -> Result<TokenState, SourceError> {
        match self {
            SourceClient::Facebook(graph) => link::check_token(graph, target).await,
            SourceClient::Shopify(client) => shopify::link::check_token(on(client)?, target).await,
        }
    }

    /// Does what is left to do at the source after links are gone. May be repeated. A cleanup that is none of this
    /// source's is done at once.
    ///
    /// # Errors
    /// [`SourceError`] when it is not done.
    pub async fn clean_up(&self, cleanup: &Cleanup, token: &Secret) -> Result<(), SourceError> {
        match self {
            SourceClient::Facebook(graph) => link::clean_up(graph, cleanup, token).await,
            // What is left to do at Shopify is done by services of its own.
            SourceClient::Shopify(_) => Ok(()),
        }
    }
}

/// The fields of an object's bytes, by the rules of its source.
pub fn fields_of_object(source: Source, body: &[u8]) -> Fields {
    match source {
        Source::Facebook => page_data::fields_of_object(body),
        Source::Shopify => shopify::fields_of_object(body),
    }
}
