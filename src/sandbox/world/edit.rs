//! Actions of persons on Facebook: edit pages, change passwords, remove apps, lose roles. Each has the same effect on
//! tokens and webhooks as there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::World;
use super::names::is_editable;
use super::state::{Token, TokenKind};
use crate::sandbox::activity::ActivityKind;
use crate::sandbox::webhook::WebhookChange;

/// Why an action was not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such page.
    #[error("there is no page {0} in this world")]
    NoPage(String),
    /// There is no such person.
    #[error("there is no person {0} in this world")]
    NoPerson(String),
    /// The field does not exist or cannot be edited.
    #[error("a page has no field {0} that could be edited")]
    NoField(String),
}

/// The webhook field that reports changes of a node's field, if there is one.
pub(crate) fn webhook_field(node_field: &str) -> Option<&'static str> {
    const SAME: &[&str] = &[
        "affiliation",
        "attire",
        "awards",
        "birthday",
        "category",
        "company_overview",
        "culinary_team",
        "description",
        "founded",
        "general_info",
        "general_manager",
        "hometown",
        "hours",
        "location",
        "members",
        "mission",
        "name",
        "payment_options",
        "personal_info",
        "personal_interests",
        "phone",
        "picture",
        "price_range",
        "products",
        "public_transit",
        "website",
    ];
    match node_field {
        "emails" => Some("email"),
        field => SAME.iter().find(|same| **same == field).copied(),
    }
}

/// The permissions that are ticked page by page.
const TICKED: [&str; 2] = ["pages_show_list", "pages_read_engagement"];

/// Webhook fields that carry the new value. All others only say that something changed.
fn tells_value(field: &str) -> bool {
    matches!(field, "name" | "company_overview" | "founded" | "general_info" | "mission" | "products" | "category")
}

impl World {
    fn person_name(&self, person: &str) -> Result<String, EditError> {
        let name = self.look(|s| s.persons.get(person).map(|p| p.name.clone()));
        name.ok_or_else(|| EditError::NoPerson(person.chars().take(64).collect()))
    }

    fn page_name(&self, page: &str) -> Result<String, EditError> {
        let name = self.look(|s| s.pages.get(page).filter(|p| !p.deleted).map(|p| p.name().to_owned()));
        name.ok_or_else(|| EditError::NoPage(page.chars().take(64).collect()))
    }

    /// Changes a field of a page; `null` empties it, `picture` takes any value and gets a new address. A webhook goes
    /// out when the field has one and both subscriptions name it. Returns whether anything changed.
    pub fn edit_page(&self, page: &str, field: &str, value: Value) -> Result<bool, EditError> {
        self.page_name(page)?;
        if !is_editable(field) {
            return Err(EditError::NoField(field.chars().take(64).collect()));
        }
        let hook = {
            let mut inner = self.lock();
            let inner = &mut *inner;
            let state = &mut inner.state;
            let Some(entry) = state.pages.get_mut(page) else {
                return Err(EditError::NoPage(page.to_owned()));
            };
            let value = if field == "picture" { (entry.revision + 2).into() } else { value };
            if !entry.set(field, value.clone()) {
                return Ok(false);
            }
            inner.activity.edited(page, entry.revision);
            webhook_field(field).filter(|hook| {
                let page_level = entry.subscribed.as_ref().is_some_and(|fields| fields.contains(*hook));
                page_level && state.app.subscription.as_ref().is_some_and(|app| app.fields.contains(*hook))
            })
        };
        self.tell(ActivityKind::Edit, Some(page), true, format!("{field} of the page was edited"));
        if let Some(hook) = hook {
            let value = self.look(|s| s.pages.get(page).and_then(|p| p.node.get(field).cloned()));
            self.post(WebhookChange::change(page, hook, value.filter(|_| tells_value(hook))));
        }
        Ok(true)
    }

    fn refuse(&self, person: &str, subcode: u32, text: String) -> usize {
        let count = self.lock().state.refuse_tokens(subcode, |t| t.person == person);
        self.tell(ActivityKind::Edit, None, true, format!("{text}: {count} tokens ended"));
        count
    }

    /// Reports to the app that a person took back permissions, for these pages or as a whole, if it is subscribed.
    fn tell_revoked(&self, person: &str, permissions: impl IntoIterator<Item = String>, pages: &BTreeSet<String>) {
        for permission in permissions {
            let wanted = self.look(|s| s.app.permissions.as_ref().is_some_and(|app| app.fields.contains(&permission)));
            if wanted {
                self.post(WebhookChange::revoked(person, &permission, pages));
            }
        }
    }

    /// The person takes back one permission in their settings. Tokens live on; what needs the permission is refused.
    /// Returns whether it was granted.
    pub fn remove_permission(&self, person: &str, permission: &str) -> Result<bool, EditError> {
        let name = self.person_name(person)?;
        let granted = self.change(|s| s.persons.get_mut(person).is_some_and(|p| p.granted.remove(permission)));
        if granted {
            self.tell(ActivityKind::Edit, None, true, format!("{name} took back {permission}"));
            self.tell_revoked(person, [permission.to_owned()], &BTreeSet::new());
        }
        Ok(granted)
    }

    /// The person removes the app in their settings: tokens answer 458, pages are unsubscribed. Returns how many
    /// tokens died. The deauthorize callback is sent apart from this.
    pub fn remove_app(&self, person: &str) -> Result<usize, EditError> {
        let name = self.person_name(person)?;
        {
            let state = &mut self.lock().state;
            let ticked = state.persons.get_mut(person).map(|p| {
                p.granted.clear();
                p.declined.clear();
                std::mem::take(&mut p.ticked)
            });
            let elsewhere: BTreeSet<String> = state.persons.values().flat_map(|p| p.ticked.iter().cloned()).collect();
            for page in ticked.unwrap_or_default().difference(&elsewhere) {
                if let Some(page) = state.pages.get_mut(page) {
                    page.subscribed = None;
                }
            }
        }
        let count = self.refuse(person, 458, format!("{name} removed the app"));
        self.tell_revoked(person, ["connected".to_owned()], &BTreeSet::new());
        Ok(count)
    }

    /// The person changes the password: tokens answer 460. Webhooks go on. Returns how many tokens died.
    pub fn change_password(&self, person: &str) -> Result<usize, EditError> {
        let name = self.person_name(person)?;
        Ok(self.refuse(person, 460, format!("{name} changed the password")))
    }

    /// Facebook wants to see the person (checkpoint): tokens answer 459. Returns how many tokens died.
    pub fn checkpoint(&self, person: &str) -> Result<usize, EditError> {
        let name = self.person_name(person)?;
        Ok(self.refuse(person, 459, format!("{name} is held at a checkpoint")))
    }

    /// The person's tokens for the page, or all of the person's tokens, expire (463). Returns how many.
    pub fn expire_token(&self, person: &str, page: Option<&str>) -> Result<usize, EditError> {
        let name = self.person_name(person)?;
        let matches = |p: &Option<String>| page.is_none() || p.as_deref() == page;
        let count = self.lock().state.refuse_tokens(463, |t| t.person == person && matches(&t.page));
        self.tell(ActivityKind::Edit, page, true, format!("{count} tokens of {name} expired"));
        Ok(count)
    }

    /// The person's page tokens get an end date so long from now, as those of other ways to log in have. Nothing tells
    /// of it but a look at the token. Returns how many.
    pub fn expire_soon(&self, person: &str, within: Duration) -> Result<usize, EditError> {
        let name = self.person_name(person)?;
        let count = {
            let state = &mut self.lock().state;
            let at = state.now_secs() + within.as_secs();
            let theirs = |t: &&mut Token| t.person == person && t.kind == TokenKind::Page && t.refused.is_none();
            state.tokens.values_mut().filter(theirs).map(|token| token.expires_at = at).count()
        };
        self.tell(ActivityKind::Edit, None, true, format!("{count} page tokens of {name} got an end date"));
        Ok(count)
    }

    /// The person loses the role on the page: the page's token answers 492. Returns how many tokens died.
    pub fn lose_role(&self, person: &str, page: &str) -> Result<usize, EditError> {
        let name = self.person_name(person)?;
        self.page_name(page)?;
        let count = {
            let state = &mut self.lock().state;
            if let Some(page) = state.pages.get_mut(page) {
                page.roles.remove(person);
            }
            if let Some(person) = state.persons.get_mut(person) {
                person.ticked.remove(page);
            }
            state.refuse_tokens(492, |t| t.person == person && t.page.as_deref() == Some(page))
        };
        self.tell(
            ActivityKind::Edit,
            Some(page),
            true,
            format!("{name} lost the role on the page: {count} tokens ended"),
        );
        Ok(count)
    }

    /// The page is deleted: reads of it answer 100/33.
    pub fn delete_page(&self, page: &str) -> Result<(), EditError> {
        self.page_name(page)?;
        if let Some(page) = self.lock().state.pages.get_mut(page) {
            page.deleted = true;
            page.subscribed = None;
        }
        self.tell(ActivityKind::Edit, Some(page), true, "the page was deleted");
        Ok(())
    }

    /// The deleted page is back, as Facebook allows for a while.
    pub fn restore_page(&self, page: &str) -> Result<(), EditError> {
        match self.lock().state.pages.get_mut(page) {
            Some(page) => page.deleted = false,
            None => return Err(EditError::NoPage(page.chars().take(64).collect())),
        }
        self.tell(ActivityKind::Edit, Some(page), true, "the page was restored");
        Ok(())
    }

    /// The page is no longer ticked for anyone, as after a login with other pages ticked: its tokens answer 190
    /// without a subcode and without the usual wording. Returns how many tokens died.
    pub fn untick(&self, page: &str) -> Result<usize, EditError> {
        self.page_name(page)?;
        let (count, persons) = {
            let state = &mut self.lock().state;
            let ticked = state.persons.values_mut().filter_map(|p| p.ticked.remove(page).then(|| p.id.clone()));
            let persons: Vec<String> = ticked.collect();
            (state.refuse_tokens(0, |t| t.page.as_deref() == Some(page)), persons)
        };
        self.tell(ActivityKind::Edit, Some(page), true, format!("the page was unticked: {count} tokens ended"));
        for person in persons {
            self.tell_revoked(&person, TICKED.map(str::to_owned), &[page.to_owned()].into());
        }
        Ok(count)
    }

    /// Facebook forgets the page's subscription silently.
    pub fn drop_subscription(&self, page: &str) -> Result<(), EditError> {
        self.page_name(page)?;
        if let Some(page) = self.lock().state.pages.get_mut(page) {
            page.subscribed = None;
        }
        self.tell(ActivityKind::Edit, Some(page), true, "the page was silently unsubscribed");
        Ok(())
    }

    /// Facebook forgets the app's subscription silently.
    pub fn drop_app_subscription(&self) {
        self.lock().state.app.subscription = None;
        self.tell(ActivityKind::Edit, None, true, "the app was silently unsubscribed");
    }

    /// Somebody laid hands on the page's objects in Spaces.
    pub(crate) fn touched(&self, page: &str, altered: bool) {
        let how = if altered { "altered" } else { "deleted" };
        self.tell(
            ActivityKind::Edit,
            Some(page),
            true,
            format!("the page's objects were {how} behind the daemon's back"),
        );
    }

    /// The outcome of a login in the dialog: grants, ticks, and the death of tokens for pages ticked before and not
    /// any more. Tokens of pages that are ticked again live again.
    pub(crate) fn log_in(&self, person: &str, scopes: &[String], pages: BTreeSet<String>) -> Result<(), EditError> {
        let name = self.person_name(person)?;
        let count = pages.len();
        let (unticked, taken_back) = {
            let state = &mut self.lock().state;
            let Some(entry) = state.persons.get_mut(person) else {
                return Err(EditError::NoPerson(person.to_owned()));
            };
            let (before, granted) = (std::mem::take(&mut entry.ticked), entry.granted.clone());
            for scope in scopes {
                let declined = entry.declines.contains(scope);
                if declined {
                    entry.granted.remove(scope);
                    entry.declined.insert(scope.clone());
                } else {
                    entry.declined.remove(scope);
                    entry.granted.insert(scope.clone());
                }
            }
            entry.granted.insert("public_profile".into());
            entry.ticked = pages;
            let (ticked, entry_granted) = (entry.ticked.clone(), entry.granted.clone());
            let is_ticked = |page: &Option<String>| page.as_ref().is_some_and(|p| ticked.contains(p));
            for token in state.tokens.values_mut().filter(|t| t.person == person && t.refused == Some(0)) {
                if is_ticked(&token.page) {
                    token.refused = None;
                }
            }
            let taken_back: Vec<String> = granted.difference(&entry_granted).cloned().collect();
            state.refuse_tokens(0, |t| t.person == person && t.kind == TokenKind::Page && !is_ticked(&t.page));
            (before.difference(&ticked).cloned().collect::<BTreeSet<String>>(), taken_back)
        };
        self.tell(ActivityKind::Login, None, true, format!("{name} continued with {count} page(s)"));
        if !unticked.is_empty() {
            self.tell_revoked(person, TICKED.map(str::to_owned), &unticked);
        }
        self.tell_revoked(person, taken_back, &BTreeSet::new());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::world::WorldOptions;

    #[test]
    fn actions_on_what_is_not_there_are_refused() {
        let world = World::new(&WorldOptions::default());
        let page = world.look(|s| s.pages.keys().next().cloned()).unwrap();
        assert_eq!(world.edit_page("1", "name", "x".into()), Err(EditError::NoPage("1".into())));
        assert_eq!(world.edit_page(&page, "id", "2".into()), Err(EditError::NoField("id".into())));
        assert!(world.change_password("1").is_err());
        assert_eq!(world.edit_page(&page, "name", "x".into()), Ok(true));
        assert_eq!(world.edit_page(&page, "name", "x".into()), Ok(false));
        world.delete_page(&page).unwrap();
        assert!(world.edit_page(&page, "name", "y".into()).is_err());
    }
}
