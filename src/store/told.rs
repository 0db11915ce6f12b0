//! What Facebook tells of people: that one removed the app, that the permissions of some changed.

use super::people::remove_account;
use super::{Store, Unavailable};
use crate::grant::Reach;
use crate::health::{Event, Why};
use crate::model::{AppUserId, Generation, LinkKey, Millis};

impl Store {
    /// Parks every link of a person for what Facebook told, and forgets the person's logins, also one
    /// that is under way. One transaction. Returns the
    /// links, each with the generation of the token that was parked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park_person(&self, person: &AppUserId, why: Why) -> Result<Vec<(LinkKey, Generation)>, Unavailable> {
        let links = self
            .commit(|core| {
                let (links, now) = (core.links_of_person(person), Millis::now());
                for link in &links {
                    core.update_record(link, |record| record.health = record.health.after(Event::Told(why), now));
                }
                let theirs: Vec<_> = core.accounts.keys().filter(|(_, p)| p == person).cloned().collect();
                theirs.into_iter().for_each(|(user, person)| remove_account(core, user, &person));
                core.drop_chores_of(person);
                core.note_ended(person, &[], Reach::All);
                // They may be parked by a request before this one, which is still on its way to disk.
                core.wait_for_queue();
                core.with_generations(links)
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
                    let number = core.next_seq();
                    core.update_record(&link, |record| record.hint = Some(number));
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

    /// A check of this link's token of this generation begins, and answers for the hint of this number: a hint that
    /// comes from here on is another. `None` when no hint stands, or when the link has another token.
    pub fn claim_hint(&self, link: &LinkKey, generation: Generation) -> Option<u64> {
        let mut core = self.lock();
        let record = core.record(link).filter(|record| record.generation == generation)?;
        core.hinted.remove(link);
        record.hint
    }
}
