//! A change that waits for its webhook.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::sandbox::world::state::{AppSubscription, State};

/// One change to report.
#[derive(Debug, Clone)]
pub(crate) struct WebhookChange {
    pub(super) object: Object,
    /// The page or the person.
    pub(super) id: String,
    pub(super) field: String,
    pub(super) value: Option<Value>,
}

/// The subject of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    Page,
    Permissions,
}

impl Object {
    pub(super) fn word(self) -> &'static str {
        match self {
            Object::Page => "page",
            Object::Permissions => "permissions",
        }
    }

    /// The app's subscription to it.
    pub(super) fn subscription(self, state: &State) -> Option<&AppSubscription> {
        match self {
            Object::Page => state.app.subscription.as_ref(),
            Object::Permissions => state.app.permissions.as_ref(),
        }
    }
}

impl WebhookChange {
    pub(crate) fn change(page: &str, field: &str, value: Option<Value>) -> Self {
        WebhookChange { object: Object::Page, id: page.into(), field: field.into(), value }
    }

    /// A person took back a permission, for these pages or as a whole.
    pub(crate) fn revoked(person: &str, field: &str, pages: &BTreeSet<String>) -> Self {
        let mut value = json!({"verb": "revoked"});
        if !pages.is_empty() {
            value["target_ids"] = json!(pages);
        }
        WebhookChange { object: Object::Permissions, id: person.into(), field: field.into(), value: Some(value) }
    }
}
