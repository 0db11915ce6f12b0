//! The state of the world, as plain structs that can be saved and loaded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The permissions the dialog of the sandbox knows.
pub const PERMISSIONS: &[&str] = &[
    "public_profile",
    "email",
    "pages_show_list",
    "pages_read_engagement",
    "pages_manage_metadata",
    "pages_read_user_content",
    "pages_messaging",
    "business_management",
];

/// How many former states of a page are kept.
const HISTORY: usize = 64;

/// The app that the daemon is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct App {
    /// Its id, decimal.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// Its name in the dialog.
    pub name: String,
    /// "Valid OAuth Redirect URIs", matched exactly.
    pub redirect_uris: BTreeSet<String>,
    /// "Require App Secret": every call must bring a proof.
    pub require_proof: bool,
    /// The deauthorize callback.
    pub deauthorize_url: Option<String>,
    /// The data deletion callback.
    pub data_deletion_url: Option<String>,
    /// The app-level webhook subscription for pages.
    pub subscription: Option<AppSubscription>,
    /// The one for permissions.
    #[serde(default)]
    pub permissions: Option<AppSubscription>,
}

/// The app-level subscription, as the daemon asked for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppSubscription {
    /// Where webhooks go.
    pub callback_url: String,
    /// What the handshake must bring.
    pub verify_token: String,
    /// The fields.
    pub fields: BTreeSet<String>,
    /// Values in the deliveries, or only names.
    pub include_values: bool,
}

/// A person on Facebook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Person {
    /// The app-scoped id.
    pub id: String,
    /// Name.
    pub name: String,
    /// What was granted in the latest login.
    pub granted: BTreeSet<String>,
    /// What was asked for and declined.
    pub declined: BTreeSet<String>,
    /// The person declines these permissions.
    pub declines: BTreeSet<String>,
    /// The pages ticked in the latest login.
    pub ticked: BTreeSet<String>,
}

/// A business portfolio.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Business {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The persons who see it.
    pub persons: BTreeSet<String>,
    /// Pages it owns.
    pub owned: BTreeSet<String>,
    /// Pages it works on for others.
    pub client: BTreeSet<String>,
}

/// A page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page {
    /// The node, `id` included; what a read may show.
    pub node: Map<String, Value>,
    /// Who may do what: person to tasks.
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// Held through a portfolio: `/me/accounts` hides it without `business_management`.
    pub portfolio: bool,
    /// No `access_token` in listings.
    pub token_withheld: bool,
    /// Fields that this page refuses with 200/2069031.
    pub unsupported: BTreeSet<String>,
    /// The page-level webhook subscription; `None` when the app is not subscribed.
    pub subscribed: Option<BTreeSet<String>>,
    /// Is it gone?
    pub deleted: bool,
    /// Counts the edits.
    pub revision: u64,
    /// Former states and this one, newest last.
    pub history: VecDeque<(u64, Map<String, Value>)>,
}

impl Page {
    /// The id.
    pub fn id(&self) -> &str {
        self.node.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.node.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Changes or, with `null`, removes a field. Says whether anything changed.
    pub(crate) fn set(&mut self, field: &str, value: Value) -> bool {
        if self.node.get(field).unwrap_or(&Value::Null) == &value {
            return false;
        }
        if value.is_null() {
            self.node.remove(field);
        } else {
            self.node.insert(field.to_owned(), value);
        }
        self.revision += 1;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((self.revision, self.node.clone()));
        true
    }

    /// The revisions that `data`, taken from an object, can have been read at. Fields it lacks do not matter, nor
    /// do picture addresses, which rotate.
    pub(crate) fn revisions_of(&self, data: &Map<String, Value>) -> Vec<u64> {
        let fits = |node: &Map<String, Value>| {
            data.iter().filter(|(field, _)| *field != "picture").all(|(field, value)| node.get(field) == Some(value))
        };
        self.history.iter().filter(|(_, node)| fits(node)).map(|(revision, _)| *revision).collect()
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A person's, for an hour or two.
    UserShort,
    /// A person's, for sixty days.
    UserLong,
    /// A page's, of one person.
    Page,
}

/// A token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// What it is for.
    pub kind: TokenKind,
    /// Whose it is.
    pub person: String,
    /// The page, for a page token.
    pub page: Option<String>,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds; zero is never.
    pub expires_at: u64,
    /// Refused with code 190 and this subcode (zero: the page was unticked) ever since.
    pub refused: Option<u32>,
}

/// A login code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Code {
    /// Who logged in.
    pub person: String,
    /// The redirect address it is bound to.
    pub redirect_uri: String,
    /// Unix seconds.
    pub issued_at: u64,
    /// Exchanged already?
    pub used: bool,
}

/// The whole world.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// What ids, names and tokens grow from.
    pub seed: u64,
    /// Counts what was minted.
    pub minted: u64,
    /// Added to the wall clock, in seconds.
    pub clock_ahead: u64,
    /// The app.
    pub app: App,
    /// By app-scoped id.
    pub persons: BTreeMap<String, Person>,
    /// By page id.
    pub pages: BTreeMap<String, Page>,
    /// By business id.
    pub businesses: BTreeMap<String, Business>,
    /// By the token's text.
    pub tokens: BTreeMap<String, Token>,
    /// By the code's text.
    pub codes: BTreeMap<String, Code>,
    /// The oldest and the newest API version alive.
    pub versions: (u32, u32),
    /// Entries per answer in listings.
    pub listing_size: usize,
    /// Every so many answers of a listing is empty and has a `next`; zero for none.
    pub empty_every: usize,
}
