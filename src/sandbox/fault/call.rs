//! The kinds of request that the world distinguishes.

use serde::{Deserialize, Serialize};

/// A request by its purpose, at any of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The login dialog in the browser.
    Dialog,
    /// A code becomes a token.
    ExchangeCode,
    /// A short-lived user token becomes a long-lived one.
    ExtendToken,
    /// The app's own token.
    AppToken,
    /// `/me` or `/{person}`.
    Me,
    /// `/me/permissions`.
    Permissions,
    /// `/me/accounts`.
    Accounts,
    /// `/me/businesses`.
    Businesses,
    /// `/{business}/owned_pages`.
    OwnedPages,
    /// `/{business}/client_pages`.
    ClientPages,
    /// `/debug_token`.
    DebugToken,
    /// `/{page}`.
    ReadPage,
    /// `GET /{page}/subscribed_apps`.
    ReadSubscribed,
    /// `POST /{page}/subscribed_apps`.
    Subscribe,
    /// `DELETE /{page}/subscribed_apps`.
    Unsubscribe,
    /// `GET /{app}/subscriptions`.
    ReadAppSubscriptions,
    /// `POST /{app}/subscriptions`.
    AppSubscribe,
    /// `DELETE /{app}/subscriptions`.
    AppUnsubscribe,
    /// `DELETE /{person}/permissions`.
    Revoke,
    /// Anything else asked of Graph.
    OtherGraph,
    /// An object is written.
    Put,
    /// An object is read.
    Get,
    /// An object's headers are read.
    Head,
    /// An object is deleted.
    Delete,
    /// Keys are listed, and anything else asked of a bucket.
    Bucket,
    /// An event is posted to the platform's receiver.
    Event,
}

impl Call {
    /// Its name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Call::Dialog => "dialog",
            Call::ExchangeCode => "exchange_code",
            Call::ExtendToken => "extend_token",
            Call::AppToken => "app_token",
            Call::Me => "me",
            Call::Permissions => "permissions",
            Call::Accounts => "accounts",
            Call::Businesses => "businesses",
            Call::OwnedPages => "owned_pages",
            Call::ClientPages => "client_pages",
            Call::DebugToken => "debug_token",
            Call::ReadPage => "read_page",
            Call::ReadSubscribed => "read_subscribed",
            Call::Subscribe => "subscribe",
            Call::Unsubscribe => "unsubscribe",
            Call::ReadAppSubscriptions => "read_app_subscriptions",
            Call::AppSubscribe => "app_subscribe",
            Call::AppUnsubscribe => "app_unsubscribe",
            Call::Revoke => "revoke",
            Call::OtherGraph => "other_graph",
            Call::Put => "put",
            Call::Get => "get",
            Call::Head => "head",
            Call::Delete => "delete",
            Call::Bucket => "bucket",
            Call::Event => "event",
        }
    }

    /// A description of the successful request, for persons.
    pub fn title(self) -> &'static str {
        match self {
            Call::Dialog => "login dialog",
            Call::ExchangeCode => "login code exchanged for a token",
            Call::ExtendToken => "token exchanged for a long-lived one",
            Call::AppToken => "app token read",
            Call::Me => "person read",
            Call::Permissions => "permissions read",
            Call::Accounts => "list of pages read",
            Call::Businesses => "list of businesses read",
            Call::OwnedPages | Call::ClientPages => "pages of a business read",
            Call::DebugToken => "token inspected",
            Call::ReadPage => "page read from Graph",
            Call::ReadSubscribed => "page's subscription read",
            Call::Subscribe => "page subscribed",
            Call::Unsubscribe => "page unsubscribed",
            Call::ReadAppSubscriptions => "app's subscription read",
            Call::AppSubscribe => "app subscribed",
            Call::AppUnsubscribe => "app unsubscribed",
            Call::Revoke => "permission given back",
            Call::OtherGraph => "something else asked of Graph",
            Call::Put => "object written to Spaces",
            Call::Get => "object read from Spaces",
            Call::Head => "object checked in Spaces",
            Call::Delete => "object deleted from Spaces",
            Call::Bucket => "bucket looked at",
            Call::Event => "event delivered",
        }
    }

    /// Does Spaces answer it?
    pub fn is_spaces(self) -> bool {
        matches!(self, Call::Put | Call::Get | Call::Head | Call::Delete | Call::Bucket)
    }
}
