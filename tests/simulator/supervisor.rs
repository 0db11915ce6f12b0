//! The supervisor: `src/actors/supervisor.rs` and its `boot`, without doors.

use std::time::Duration;

use pagesyncd::core::link::schedule;
use pagesyncd::core::model::MonoTime;
use pagesyncd::core::restart::{ActorKind, Verdict};

use super::page::PageMsg;
use super::store::{Core, L};
use super::uploader::UploaderMsg;
use super::world::{Event, Place, SupervisorMsg, World};

impl World {
    /// The process starts: memory from disk, the uploader, a page for each link.
    pub fn start(&mut self) {
        self.up = true;
        self.store.core = Core::load(&self.store.disk);
        self.new_uploader();
        let links: Vec<L> = self.store.core.records.keys().copied().collect();
        let spread = schedule::spread(links.len(), self.pace.poll_interval);
        links.into_iter().for_each(|l| self.spawn_page(l, spread));
    }

    fn spawn_page(&mut self, l: L, spread: Duration) {
        if !self.store.core.records.contains_key(&l) {
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

    pub fn supervisor_handles(&mut self, message: SupervisorMsg) {
        match message {
            SupervisorMsg::Linked(links) => {
                for l in links {
                    match self.directory.get(&l).map(|p| p.instance).filter(|i| self.pages.contains_key(i)) {
                        Some(instance) => self.tell_page(instance, PageMsg::Relinked),
                        None => self.spawn_page(l, Duration::ZERO),
                    }
                }
            }
            SupervisorMsg::Unlinked(links) => self.unlinked(links),
            SupervisorMsg::RespawnPage(l) => self.spawn_page(l, Duration::ZERO),
            SupervisorMsg::RespawnUploader => self.new_uploader(),
            SupervisorMsg::PageDied(l, instance) => self.page_died(l, instance),
            SupervisorMsg::UploaderDied => self.uploader_died(),
            SupervisorMsg::StoreBack => self.store_back(),
        }
    }

    fn unlinked(&mut self, mut links: Vec<L>) {
        links.retain(|l| !self.store.core.records.contains_key(l));
        for l in links {
            self.histories.remove(&l);
            if let Some(place) = self.directory.remove(&l) {
                self.stop_page(place.instance);
            }
        }
        self.tell_uploader(UploaderMsg::Refill);
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

    fn store_back(&mut self) {
        let links: Vec<L> = self.store.core.records.keys().copied().collect();
        let gone: Vec<L> = self.directory.keys().copied().filter(|l| !links.contains(l)).collect();
        self.unlinked(gone);
        let spread = schedule::spread(links.len(), self.pace.poll_interval);
        for l in links {
            match self.directory.get(&l).map(|p| p.instance) {
                Some(instance) => self.tell_page(instance, PageMsg::Look(spread)),
                None => self.spawn_page(l, spread),
            }
        }
        self.tell_uploader(UploaderMsg::Refill);
    }
}
