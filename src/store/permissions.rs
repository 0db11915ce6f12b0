//! Facebook's reports about persons: that one removed the app, that the permissions of some changed.

use super::feed::Change;
use super::persons::Departure;
use super::{Store, Unavailable};
use crate::core::grant::Reach;
use crate::core::health::{Evidence, ParkReason};
use crate::core::model::{AppUserId, Generation, LinkKey, WallTime};

impl Store {
    /// Parks every link of a person for what Facebook reported, and forgets the person's logins, also one that is under way.
    /// Of a request of Meta's, dated so, newer grants are no concern: see [`grant`](crate::core::grant). One transaction.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park_person(
        &self,
        person: &AppUserId,
        why: ParkReason,
        issued_at: Option<WallTime>,
    ) -> Result<Departure, Unavailable> {
        self.commit(|state| {
            let now = WallTime::now();
            let reach = Reach::of(issued_at, now);
            let departure = state.departure(person, reach, now);
            for (link, _) in &departure.links {
                state.update_record(link, |record| record.health = record.health.after(Evidence::Reported(why), now));
            }
            state.end_logins(person, reach, now);
            state.drop_cleanups_of(person, reach, now);
            state.note_ended(person, &[], reach);
            // They may be parked by a request before this one, which is still on its way to disk.
            state.wait_for_queue();
            departure
        })
        .await
    }

    /// Facebook reported that these persons' permissions changed: each of their links is owed a check of its token, unless a
    /// person must act on it first. Costs no write where a check is owed that has not begun. Returns the links.
    ///
    /// # Errors
    /// [`Unavailable`] when it could not be made durable; some of it may be noted all the same.
    pub async fn hint_people(&self, people: &[AppUserId]) -> Result<Vec<LinkKey>, Unavailable> {
        self.commit(|state| {
            let links: Vec<LinkKey> = people.iter().flat_map(|person| state.links_of_person(person)).collect();
            let mut hinted = Vec::new();
            for link in links {
                if !state.record(&link).is_some_and(|record| record.health.is_active()) {
                    continue;
                }
                if state.hinted.insert(link.clone()) {
                    let number = state.next_seq();
                    state.update_record(&link, |record| record.hint = Some(number));
                    state.publish(Change::TokenCheck(link.clone()));
                } else {
                    // Somebody else's write, which may be on its way still.
                    state.wait_for_queue();
                }
                hinted.push(link);
            }
            hinted
        })
        .await
    }

    /// A doubt about the token of this generation that needs no durable note: the link is to check it now.
    pub fn doubt_token(&self, link: &LinkKey, generation: Generation) {
        self.lock().publish_now(Change::Recheck(link.clone(), generation));
    }

    /// A check of this link's token of this generation begins, and answers for the hint of this number: a hint that
    /// comes from here on is another. `None` when no hint stands, or when the link has another token.
    pub fn claim_hint(&self, link: &LinkKey, generation: Generation) -> Option<u64> {
        let mut state = self.lock();
        let record = state.record(link).filter(|record| record.generation == generation)?;
        state.hinted.remove(link);
        record.hint
    }
}
