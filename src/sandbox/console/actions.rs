//! The actions behind the console's buttons.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Console, bad};
use crate::core::model::{PageId, UserId};
use crate::sandbox::fault::Fault;
use crate::sandbox::shopify::ShopFault;

/// At most so many pages are edited by one press of a button.
const MOST_SHUFFLED: usize = 2000;

#[derive(Deserialize)]
struct Edit {
    page: String,
    field: String,
    value: Value,
}

#[derive(Deserialize)]
struct Shuffle {
    count: usize,
}

#[derive(Deserialize)]
struct Switch {
    /// The name of a fault of any side.
    fault: String,
    on: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PersonAction {
    ChangePassword,
    RemovePermission,
    RemoveApp,
    Checkpoint,
    ExpireTokens,
    ExpireSoon,
    DeleteData,
}

#[derive(Deserialize)]
struct OfPerson {
    person: String,
    action: PersonAction,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PageAction {
    Untick,
    Delete,
    Restore,
    DropSubscription,
    LoseRole,
    DeleteObjects,
    AlterObjects,
    Sync,
}

#[derive(Deserialize)]
struct OfPage {
    page: String,
    action: PageAction,
}

#[derive(Deserialize)]
struct Login {
    user: UserId,
}

fn read<T: for<'a> Deserialize<'a>>(body: Value) -> Result<T, (http::StatusCode, String)> {
    serde_json::from_value(body).map_err(bad)
}

impl Console {
    pub(super) async fn action(&self, name: &str, body: Value) -> Answer {
        if let Some(answer) = self.shop_action(name, &body) {
            return answer;
        }
        match name {
            "edit" => {
                let Edit { page, field, value } = read(body)?;
                let changed = self.world.edit_page(&page, &field, value).map_err(bad)?;
                Ok(json!({"changed": changed}))
            }
            "shuffle" => self.shuffle(read::<Shuffle>(body)?.count.min(MOST_SHUFFLED)),
            "fault" => {
                let Switch { fault, on } = read(body)?;
                match (fault.parse::<ShopFault>(), self.world.shopify()) {
                    (Ok(fault), Some(shopify)) => shopify.set_fault(fault, on),
                    _ => self.world.set_fault(fault.parse::<Fault>().map_err(bad)?, on),
                }
                Ok(json!({"on": on}))
            }
            "calm" => {
                self.world.clear_faults();
                if let Some(shopify) = self.world.shopify() {
                    shopify.clear_faults();
                }
                Ok(json!({}))
            }
            "person" => self.person_action(read(body)?).await,
            "page" => self.page_action(read(body)?).await,
            "daemon" => self.daemon_action(read(body)?).await,
            "database" => self.database_action(read(body)?).await,
            "login" => {
                let url = self.control.mint_login(read::<Login>(body)?.user).await.map_err(bad)?;
                Ok(json!({"url": url}))
            }
            _ => Err((http::StatusCode::NOT_FOUND, "there is no such button".into())),
        }
    }

    /// Edits pages here and there, as a busy minute on Facebook does.
    fn shuffle(&self, count: usize) -> Answer {
        let ids: Vec<String> =
            self.world.look(|s| s.pages.values().filter(|p| !p.deleted).map(|p| p.id().to_owned()).collect());
        let mut changed = 0;
        for id in ids.iter().cycle().take(if ids.is_empty() { 0 } else { count }) {
            let about = format!("Open as usual, notice {}.", self.world.tick());
            let field = if changed % 2 == 0 { "description" } else { "website" };
            let value = if field == "website" { format!("https://{}.example/", self.world.tick()) } else { about };
            changed += usize::from(self.world.edit_page(id, field, value.into()).map_err(bad)?);
        }
        Ok(json!({"changed": changed}))
    }

    async fn person_action(&self, OfPerson { person, action }: OfPerson) -> Answer {
        let world = &self.world;
        match action {
            PersonAction::ChangePassword => Ok(json!({"tokens": world.change_password(&person).map_err(bad)?})),
            PersonAction::Checkpoint => Ok(json!({"tokens": world.checkpoint(&person).map_err(bad)?})),
            PersonAction::ExpireTokens => Ok(json!({"tokens": world.expire_token(&person, None).map_err(bad)?})),
            PersonAction::ExpireSoon => {
                Ok(json!({"tokens": world.expire_soon(&person, Duration::from_secs(10 * 86_400)).map_err(bad)?}))
            }
            PersonAction::RemovePermission => {
                let removed = world.remove_permission(&person, "pages_read_engagement").map_err(bad)?;
                Ok(json!({"removed": removed}))
            }
            PersonAction::RemoveApp => {
                let tokens = world.remove_app(&person).map_err(bad)?;
                let answered = world.send_deauthorize(&person).await;
                Ok(json!({"tokens": tokens, "answered": answered.map_err(bad)?}))
            }
            PersonAction::DeleteData => {
                let tokens = world.remove_app(&person).map_err(bad)?;
                let (status, answer) = world.send_data_deletion(&person).await.map_err(bad)?;
                Ok(json!({"tokens": tokens, "answered": status, "answer": answer}))
            }
        }
    }

    async fn page_action(&self, OfPage { page, action }: OfPage) -> Answer {
        let world = &self.world;
        match action {
            PageAction::Untick => Ok(json!({"tokens": world.untick(&page).map_err(bad)?})),
            PageAction::Delete => world.delete_page(&page).map(|()| json!({})).map_err(bad),
            PageAction::Restore => world.restore_page(&page).map(|()| json!({})).map_err(bad),
            PageAction::DropSubscription => world.drop_subscription(&page).map(|()| json!({})).map_err(bad),
            PageAction::LoseRole => {
                let persons: Vec<String> =
                    world.look(|s| s.pages.get(&page).map(|p| p.roles.keys().cloned().collect()).unwrap_or_default());
                for person in persons {
                    world.lose_role(&person, &page).map_err(bad)?;
                }
                Ok(json!({}))
            }
            PageAction::DeleteObjects | PageAction::AlterObjects => {
                let Some(objects) = world.objects() else { return Err(bad("there is no Spaces in this world")) };
                let part = format!("/facebook/{page}/");
                let mut count = 0;
                for key in objects.list().iter().filter(|key| key.contains(&part)) {
                    let alter = matches!(action, PageAction::AlterObjects);
                    count += usize::from(if alter { objects.alter(key) } else { objects.delete(key) });
                }
                world.touched(&page, matches!(action, PageAction::AlterObjects));
                Ok(json!({"objects": count}))
            }
            PageAction::Sync => {
                let page: PageId = page.parse().map_err(bad)?;
                self.control.sync(page).await.map(|()| json!({})).map_err(bad)
            }
        }
    }
}
