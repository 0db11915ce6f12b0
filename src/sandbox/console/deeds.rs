//! What the console does when a button is pressed.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Console, bad};
use crate::core::model::{PageId, UserId};
use crate::sandbox::fault::Fault;

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
    fault: Fault,
    on: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PersonDeed {
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
    deed: PersonDeed,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PageDeed {
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
    deed: PageDeed,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum DaemonDeed {
    Start,
    Kill,
}

#[derive(Deserialize)]
struct OfDaemon {
    deed: DaemonDeed,
}

#[derive(Deserialize)]
struct Login {
    user: UserId,
}

fn read<T: for<'a> Deserialize<'a>>(body: Value) -> Result<T, (http::StatusCode, String)> {
    serde_json::from_value(body).map_err(bad)
}

impl Console {
    pub(super) async fn deed(&self, name: &str, body: Value) -> Answer {
        match name {
            "edit" => {
                let Edit { page, field, value } = read(body)?;
                let changed = self.world.edit_page(&page, &field, value).map_err(bad)?;
                Ok(json!({"changed": changed}))
            }
            "shuffle" => self.shuffle(read::<Shuffle>(body)?.count.min(MOST_SHUFFLED)),
            "fault" => {
                let Switch { fault, on } = read(body)?;
                self.world.set_fault(fault, on);
                Ok(json!({"on": on}))
            }
            "calm" => {
                self.world.clear_faults();
                Ok(json!({}))
            }
            "person" => self.person_deed(read(body)?).await,
            "page" => self.page_deed(read(body)?).await,
            "daemon" => {
                let done = match read::<OfDaemon>(body)?.deed {
                    DaemonDeed::Start => self.control.start().await,
                    DaemonDeed::Kill => self.control.kill().await,
                };
                done.map_err(bad)?;
                Ok(json!({"daemon": self.control.state()}))
            }
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

    async fn person_deed(&self, OfPerson { person, deed }: OfPerson) -> Answer {
        let world = &self.world;
        match deed {
            PersonDeed::ChangePassword => Ok(json!({"tokens": world.change_password(&person).map_err(bad)?})),
            PersonDeed::Checkpoint => Ok(json!({"tokens": world.checkpoint(&person).map_err(bad)?})),
            PersonDeed::ExpireTokens => Ok(json!({"tokens": world.expire_token(&person, None).map_err(bad)?})),
            PersonDeed::ExpireSoon => {
                Ok(json!({"tokens": world.expire_soon(&person, Duration::from_secs(10 * 86_400)).map_err(bad)?}))
            }
            PersonDeed::RemovePermission => {
                let removed = world.remove_permission(&person, "pages_read_engagement").map_err(bad)?;
                Ok(json!({"removed": removed}))
            }
            PersonDeed::RemoveApp => {
                let tokens = world.remove_app(&person).map_err(bad)?;
                let told = world.send_deauthorize(&person).await;
                Ok(json!({"tokens": tokens, "told": told.map_err(bad)?}))
            }
            PersonDeed::DeleteData => {
                let tokens = world.remove_app(&person).map_err(bad)?;
                let (status, answer) = world.send_data_deletion(&person).await.map_err(bad)?;
                Ok(json!({"tokens": tokens, "told": status, "answer": answer}))
            }
        }
    }

    async fn page_deed(&self, OfPage { page, deed }: OfPage) -> Answer {
        let world = &self.world;
        match deed {
            PageDeed::Untick => Ok(json!({"tokens": world.untick(&page).map_err(bad)?})),
            PageDeed::Delete => world.delete_page(&page).map(|()| json!({})).map_err(bad),
            PageDeed::Restore => world.restore_page(&page).map(|()| json!({})).map_err(bad),
            PageDeed::DropSubscription => world.drop_subscription(&page).map(|()| json!({})).map_err(bad),
            PageDeed::LoseRole => {
                let people: Vec<String> =
                    world.look(|s| s.pages.get(&page).map(|p| p.roles.keys().cloned().collect()).unwrap_or_default());
                for person in people {
                    world.lose_role(&person, &page).map_err(bad)?;
                }
                Ok(json!({}))
            }
            PageDeed::DeleteObjects | PageDeed::AlterObjects => {
                let Some(objects) = world.objects() else { return Err(bad("there is no Spaces in this world")) };
                let part = format!("/facebook/{page}/");
                let mut count = 0;
                for key in objects.list().iter().filter(|key| key.contains(&part)) {
                    let alter = matches!(deed, PageDeed::AlterObjects);
                    count += usize::from(if alter { objects.alter(key) } else { objects.delete(key) });
                }
                world.touched(&page, matches!(deed, PageDeed::AlterObjects));
                Ok(json!({"objects": count}))
            }
            PageDeed::Sync => {
                let page: PageId = page.parse().map_err(bad)?;
                self.control.sync(page).await.map(|()| json!({})).map_err(bad)
            }
        }
    }
}
