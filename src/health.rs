//! How a link fares, in words for people and for dashboards. Pure.
//!
//! A link is `active`, or parked: its page actor does not call Graph until a person did something, since a dead token
//! that is tried again and again gets an app blocked. Transient trouble (Graph down, throttling) never parks a link.

use serde::{Deserialize, Serialize};

use crate::model::Millis;

/// What ended the usefulness of a link's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The session ran out (190/463).
    Expired,
    /// The password was changed or Facebook reset the session (190/460).
    PasswordChanged,
    /// The person must confirm something on facebook.com (190/459, 464).
    Checkpoint,
    /// The token is not valid for another reason (190, 102).
    Invalid,
    /// The page was not ticked in a later login, or a permission was taken back.
    PermissionLost,
    /// The person has no role on the page any more (190/492).
    RoleLost,
    /// The person removed the app (190/458) or sent a deauthorization.
    AppRemoved,
    /// The page does not exist or is out of reach (100/33).
    PageGone,
    /// The app was blocked from this for breaking a policy (368).
    Blocked,
}

/// Parked since when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The reason.
    pub why: Why,
    /// Since when.
    pub since: Millis,
}

/// The durable health of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Reads are made.
    #[default]
    Active,
    /// A person must act first.
    Parked(Parked),
}

impl Why {
    /// The word in `health`, for scripts and dashboards.
    pub fn word(self) -> &'static str {
        match self {
            Why::Expired | Why::PasswordChanged | Why::Checkpoint | Why::Invalid | Why::PermissionLost => {
                "needs_relink"
            }
            Why::RoleLost => "lost_role",
            Why::AppRemoved => "app_removed",
            Why::PageGone => "page_gone",
            Why::Blocked => "blocked",
        }
    }

    /// What happened and what to do, in one line for a person.
    pub fn reason(self) -> &'static str {
        match self {
            Why::Expired => "the login expired; the person must link the page again",
            Why::PasswordChanged => {
                "the person changed the Facebook password or the session was reset; link the page again"
            }
            Why::Checkpoint => {
                "Facebook wants the person to confirm the account on facebook.com; then link the page again"
            }
            Why::Invalid => "Facebook does not accept the token any more; the person must link the page again",
            Why::PermissionLost => "the page was unticked or a permission was taken back; link again and tick the page",
            Why::RoleLost => "the person has no role on the page any more; someone with a role must link it",
            Why::AppRemoved => "the person removed the app on Facebook; link again if that was not meant",
            Why::PageGone => "the page does not exist any more or is out of reach; unlink it, or link it again",
            Why::Blocked => "Facebook blocked the app from this page; see the app's alerts in the Meta dashboard",
        }
    }
}

impl Health {
    /// `active`, or the word that says what is wrong.
    pub fn word(&self) -> &'static str {
        match self {
            Health::Active => "active",
            Health::Parked(parked) => parked.why.word(),
        }
    }

    /// The reason, where one is due.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Health::Active => None,
            Health::Parked(parked) => Some(parked.why.reason()),
        }
    }

    /// May Graph be called with this link's token?
    pub fn is_active(&self) -> bool {
        matches!(self, Health::Active)
    }
}
