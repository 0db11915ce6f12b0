//! What Facebook tells of people: that one removed the app, that the permissions of some changed.

use std::time::Duration;

use super::people::remove_account;
use super::{Store, Unavailable};
use crate::health::{Event, Why};
use crate::model::{AppUserId, LinkKey, Millis};

impl Store {
    /// Parks every link of a person for what Facebook told, and forgets the person's logins. One transaction. Returns the
    /// links.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park_person(&self, person: &AppUserId, why: Why) -> Result<Vec<LinkKey>, Unavailable> {
        let links = self
            .commit(|core| {
                let (links, now) = (core.links_of_person(person), Millis::now());
                for link in &links {
                    core.update_record(link, |record| record.health = record.health.after(Event::Told(why), now));
                }
                let theirs: Vec<_> = core.accounts.keys().filter(|(_, p)| p == person).cloned().collect();
                theirs.into_iter().for_each(|(user, person)| remove_account(core, user, &person));
                core.drop_chores_of(person);
                links
            })
            .await?;
        self.note_progress();
        Ok(links)
    }

    /// Facebook told that these people's permissions changed: each of their links is owed a check of its token, unless a
    /// person must act on it first. Costs no write where a check is owed that has not begun. Returns the links.
    ///
    /// # Errors
    /// [`Unavailable`] when it could not be made durable; some of it may be noted all the same.
    pub async fn hint_people(&self, people: &[AppUserId]) -> Result<Vec<LinkKey>, Unavailable> {
        self.commit(|core| {
            let links: Vec<LinkKey> = people.iter().flat_map(|person| core.links_of_person(person)).collect();
            let mut hinted = Vec::new();
            for link in links {
                if !core.record(&link).is_some_and(|record| record.health.is_active()) {
                    continue;
                }
                if core.hinted.insert(link.clone()) {
                    // Later than the hint before, whatever the clock says: it tells the two apart.
                    let now = Millis::now();
                    core.update_record(&link, |record| {
                        let before = record.told_at.map_or(Millis(0), |at| at.plus(Duration::from_millis(1)));
                        record.told_at = Some(before.max(now));
                    });
                } else {
                    // Somebody else's write, which may be on its way still.
                    core.wait_for_queue();
                }
                hinted.push(link);
            }
            hinted
        })
        .await
    }

    /// A check of this link's token begins, and answers for this hint: one that comes from here on is another.
    pub fn claim_hint(&self, link: &LinkKey) -> Option<Millis> {
        let mut core = self.lock();
        core.hinted.remove(link);
        core.record(link).and_then(|record| record.told_at)
    }
}
