//! The supervisor: `src/actors/supervisor.rs` and its `boot`, without listeners.

use std::time::Duration;

use pagesyncd::core::model::MonoTime;
use pagesyncd::core::restart::{ActorKind, Verdict};
use pagesyncd::store::stepped::shown;

use super::page::PageMsg;
use super::store::L;
use super::world::{Event, Place, SupervisorMsg, World};

impl World {
    /// The process starts with what lies on disk; the dispatcher finds the links.
    pub fn start(&mut self) {
        self.up = true;
        self.new_uploader();
        self.new_cleanups();
        self.new_dispatcher(0);
        self.commit_next();
    }

    fn spawn_page(&mut self, l: L, spread: Duration) {
        if shown(self.store.generation(&self.keys[l])).is_none() {
            self.histories.remove(&l);
            return;
        }
        if self.directory.contains_key(&l) {
            return;
        }
        let instance = self.new_page(l, spread);
        self.directory.insert(l, Place::new(instance));
        self.tell_page(instance, PageMsg::Look(spread));
    }

    /// Fits the page of a link to the store.
    pub fn fit(&mut self, l: L, spread: Duration, look: bool) {
        if shown(self.store.generation(&self.keys[l])).is_none() {
            self.histories.remove(&l);
            if let Some(place) = self.directory.remove(&l) {
                self.stop_page(place.instance);
            }
            return;
        }
        match self.directory.get(&l).map(|p| p.instance).filter(|i| self.pages.contains_key(i)) {
            Some(instance) => self.tell_page(instance, if look { PageMsg::Look(spread) } else { PageMsg::Relinked }),
            None => self.spawn_page(l, spread),
        }
    }

    pub fn supervisor_handles(&mut self, message: SupervisorMsg) {
        match message {
            SupervisorMsg::RespawnPage(l) => self.spawn_page(l, Duration::ZERO),
            SupervisorMsg::RespawnUploader => self.new_uploader(),
            SupervisorMsg::PageDied(l, instance) => self.page_died(l, instance),
            SupervisorMsg::UploaderDied => self.uploader_died(),
        }
    }

    fn stop_page(&mut self, instance: u64) {
        if self.pages.contains_key(&instance) {
            self.cut_job(instance);
            self.pages.remove(&instance);
            self.oracle.page_ended(instance);
        }
    }

    fn page_died(&mut self, l: L, instance: u64) {
        if self.directory.get(&l).is_none_or(|p| p.instance != instance) {
            return;
        }
        self.directory.remove(&l);
        let jitter = self.chance.unit();
        let history = self.histories.entry(l).or_default();
        match history.failed(&ActorKind::Page.policy(), MonoTime(self.now.0), jitter) {
            Verdict::Restart { after } => {
                self.soon(after.as_millis() as u64, Event::Supervisor(SupervisorMsg::RespawnPage(l)));
            }
            Verdict::GiveUp => self.fail(format!("page {l} was given up, which no page ever is")),
        }
    }

    fn uploader_died(&mut self) {
        let (now, jitter) = (self.mono(), self.chance.unit());
        let spent = self.oracle.uploader_died(now);
        match self.uploader_history.failed(&ActorKind::Uploader.policy(), now, jitter) {
            Verdict::Restart { .. } if spent => self.fail("the uploader came back beyond its budget".into()),
            Verdict::Restart { after } => {
                self.soon(after.as_millis() as u64, Event::Supervisor(SupervisorMsg::RespawnUploader));
            }
            Verdict::GiveUp if !spent => self.fail("the uploader was given up within its budget".into()),
            Verdict::GiveUp => {
                self.figures.give_ups += 1;
                self.crash();
            }
        }
    }
}
