//! The supervisor: `src/actors/supervisor.rs` and its `boot`, without doors; and what people and misfortune do.

use std::time::Duration;

use pagesyncd::model::{Cause, Millis};
use pagesyncd::page::schedule;
use pagesyncd::restart::{ActorKind, Verdict};

use super::page::PageMsg;
use super::store::{Core, L};
use super::uploader::UploaderMsg;
use super::world::{Event, Place, SupervisorMsg, Waiter, World};

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
        self.directory.insert(l, Place { instance, told: Vec::new() });
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

    fn unlinked(&mut self, links: Vec<L>) {
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
        }
    }

    fn page_died(&mut self, l: L, instance: u64) {
        if self.directory.get(&l).is_none_or(|p| p.instance != instance) {
            return;
        }
        self.directory.remove(&l);
        let jitter = self.chance.unit();
        let history = self.histories.entry(l).or_default();
        match history.failed(&ActorKind::Page.policy(), self.now, jitter) {
            Verdict::Restart { after } => {
                self.soon(after.as_millis() as u64, Event::Supervisor(SupervisorMsg::RespawnPage(l)));
            }
            Verdict::GiveUp => self.fail(format!("page {l} was given up, which no page ever is")),
        }
    }

    fn uploader_died(&mut self) {
        let (now, jitter) = (self.now, self.chance.unit());
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

    /// A person, an operator or misfortune acts; then the next is planned, until faults end.
    pub fn chaos(&mut self) {
        if self.now >= self.faults_end {
            return self.heal();
        }
        let page = self.chance.below(self.plan.pages as u64) as usize;
        match self.chance.below(100) {
            0..=31 => self.burst(page),
            32..=33 => self.damage_a_body(),
            34..=39 => self.link_some(),
            40..=43 => self.unlink_page(page),
            44..=48 => self.operator_syncs(page),
            49..=53 => self.kill_a_token(),
            54..=62 => self.one_page_panics(),
            63..=67 => self.uploader_panics(),
            68..=71 => self.crash(),
            72..=75 => self.reload(),
            _ => self.trouble(),
        }
        let wait = self.chance.below(2 * self.plan.pause) + 1;
        let wait = if self.chance.percent(30) { wait % 60 } else { wait };
        self.at(Millis(self.now.0 + wait), Event::Chaos);
    }

    fn burst(&mut self, page: usize) {
        for _ in 0..self.chance.between(1, 4) {
            let at = Millis(self.now.0 + self.chance.below(4_000));
            self.at(at, Event::Change(page));
        }
    }

    /// A login: some pages of one user get a new token, linked before or not.
    pub fn link_some(&mut self) {
        if !self.up {
            return;
        }
        let user = self.chance.below(self.plan.users as u64) as usize;
        let all = (0..self.plan.pages).map(|page| user * self.plan.pages + page);
        let links: Vec<L> = all.filter(|_| self.chance.percent(50)).collect();
        self.link(links);
    }

    pub fn link(&mut self, links: Vec<L>) {
        let now = self.now;
        let links: Vec<(L, usize)> = links.into_iter().map(|l| (l, self.graph.version(self.page_of(l)))).collect();
        let tokens: Vec<usize> = links.iter().map(|_| self.graph.new_token()).collect();
        let decided = self.store.decide(|core| {
            links.iter().zip(tokens).for_each(|((l, _), token)| core.put_link(*l, token, now));
        });
        if let Ok(((), writes)) = decided {
            self.wait(writes, Waiter::Linked { links });
        }
    }

    fn unlink_page(&mut self, page: usize) {
        let mut links = self.links_of(page);
        if self.chance.percent(60) {
            links.truncate(1);
        }
        let keep = self.chance.percent(40);
        if self.up && !links.is_empty() {
            self.unlink_rest(page, links.clone(), links, keep);
        }
    }

    fn operator_syncs(&mut self, page: usize) {
        let (now, version) = (self.now, self.graph.version(page));
        let links = self.links_of(page);
        if !self.up || links.is_empty() {
            return;
        }
        let decided = self.store.decide(|core| links.iter().for_each(|l| core.mark(*l, Cause::Manual, now)));
        if let Ok(((), writes)) = decided {
            self.wait(writes, Waiter::Synced { links: links.into_iter().map(|l| (l, version)).collect() });
        }
    }

    fn kill_a_token(&mut self) {
        let living: Vec<usize> = self.store.core.records.values().map(|r| r.token).collect();
        if !living.is_empty() && self.chance.percent(40) {
            let token = living[self.chance.below(living.len() as u64) as usize];
            self.graph.tokens[token] = false;
        }
    }

    /// A staged body cannot be read back.
    fn damage_a_body(&mut self) {
        let bodies: Vec<(L, u64)> = self.store.disk.bodies.keys().copied().collect();
        if !bodies.is_empty() {
            let at = self.chance.below(bodies.len() as u64) as usize;
            self.store.disk.bodies.remove(&bodies[at]);
        }
    }

    fn one_page_panics(&mut self) {
        let instances: Vec<u64> = self.pages.keys().copied().collect();
        if !instances.is_empty() {
            let at = self.chance.below(instances.len() as u64) as usize;
            self.page_panics(instances[at]);
        }
    }

    fn reload(&mut self) {
        self.pace.debounce = Duration::from_millis(self.chance.between(0, 4_000));
        self.pace.burst = self.chance.between(1, 5) as u32;
        self.pace.refill = Duration::from_secs(self.chance.between(1, 90));
        if self.chance.percent(40) {
            self.pace.poll_interval = self.plan.poll.mul_f64(0.5 + self.chance.unit());
        }
        self.limit = self.chance.between(1, 8) as usize;
        let instances: Vec<u64> = self.directory.values().map(|p| p.instance).collect();
        instances.into_iter().for_each(|i| self.tell_page(i, PageMsg::Reloaded));
        self.tell_uploader(UploaderMsg::Reloaded);
    }

    fn trouble(&mut self) {
        let long = if self.chance.percent(25) { 600_000 } else { 30_000 };
        let until = Millis(self.now.0 + self.chance.between(50, long));
        match self.chance.below(10) {
            0 => self.graph.down_until = until,
            1 => self.graph.throttled_until = until,
            2 => self.graph.slow_until = until,
            3 => self.spaces.down_until = until,
            4 => self.spaces.misconfigured_until = until,
            5 => self.spaces.slow_until = until,
            6 => self.spaces.ambiguous = self.chance.below(60),
            7 | 8 => self.disk_bad_until = Millis(self.now.0 + self.chance.between(20, 5_000)),
            _ => self.disk_slow_until = until,
        }
    }

    /// From here on nothing goes wrong any more.
    fn heal(&mut self) {
        let now = self.now;
        for until in [
            &mut self.graph.down_until,
            &mut self.graph.throttled_until,
            &mut self.graph.slow_until,
            &mut self.spaces.down_until,
            &mut self.spaces.misconfigured_until,
            &mut self.spaces.slow_until,
            &mut self.disk_bad_until,
            &mut self.disk_slow_until,
        ] {
            *until = now;
        }
        self.spaces.ambiguous = 0;
    }
}
