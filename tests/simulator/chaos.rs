//! What persons and misfortune do. Each run has a flavour, that is a bias: what is rare when everything happens is
//! common where little else does, and where little else happens nothing heals by accident what a fault left behind.

use std::time::Duration;

use pagesyncd::core::model::{Cause, WallTime};
use pagesyncd::store::stepped::shown;

use super::outside::Op;
use super::page::PageMsg;
use super::store::Body;
use super::store::Done;
use super::uploader::UploaderMsg;
use super::world::{Event, World};

/// What a run leans to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Everything that is known.
    All,
    /// Pages that change back and forth and are read at once, before a Spaces and a disk that are slow.
    Racing,
    /// Reads that are cut short by the death of their pages.
    Dying,
    /// Pages that hardly change, unlinked and linked again.
    Relinking,
    /// People who log in, leave, and come again, and operators who unlink.
    Leaving,
    /// Nothing by itself: the test says what happens.
    Calm,
}

impl World {
    /// A person, an operator or misfortune acts; then the next is planned, until faults end.
    pub fn chaos(&mut self) {
        if self.now >= self.faults_end {
            return self.heal();
        }
        let page = self.chance.below(self.plan.pages as u64) as usize;
        if shown(self.store.links()).is_empty() && self.up {
            // A world without links has nothing to lose.
            self.link_all();
        }
        match self.plan.flavour {
            Flavour::All => self.anything(page),
            Flavour::Racing => self.race(page),
            Flavour::Dying => self.die(page),
            Flavour::Relinking => self.relink(page),
            Flavour::Leaving => self.come_and_go(page),
            Flavour::Calm => {}
        }
        let wait = self.chance.below(2 * self.plan.pause) + 1;
        let wait = if self.chance.percent(30) { wait % 60 } else { wait };
        self.at(WallTime(self.now.0 + wait), Event::Chaos);
    }

    fn anything(&mut self, page: usize) {
        match self.chance.below(100) {
            0..=28 => self.burst(page),
            29 => self.permissions_flicker(),
            30 | 31 => self.drop_subscription(page),
            32..=33 => self.damage_a_body(),
            34..=39 => self.begin_login(),
            40..=42 => self.unlink_page(page),
            43 => self.person_leaves(),
            44..=48 => self.operator_syncs(page),
            49..=53 => self.kill_a_token(),
            54..=62 => self.one_page_panics(),
            63..=67 => self.uploader_panics(),
            68..=70 => self.crash(),
            71 => self.dispatcher_panics(),
            72..=75 => self.reload(),
            _ => self.trouble(),
        }
    }

    fn race(&mut self, page: usize) {
        let until = WallTime(self.now.0 + self.chance.between(50, 10_000));
        match self.chance.below(100) {
            0..=74 => self.burst(page),
            75..=84 => self.spaces.slow_until = until,
            85..=88 => self.spaces.down_until = until,
            89..=94 => self.disk_slow_until = until,
            95..=96 => self.spaces.ambiguous = self.chance.below(60),
            97..=98 => self.damage_a_body(),
            _ => self.reload(),
        }
    }

    /// Facebook hints at persons whose permissions did not change, too.
    fn permissions_flicker(&mut self) {
        let person = self.chance.below(self.plan.users as u64) as usize;
        for _ in 0..self.chance.between(1, 4) {
            let wait = self.chance.below(3_000);
            self.at(WallTime(self.now.0 + wait), Event::PermissionsChanged { person, tries: 0 });
        }
    }

    /// Facebook drops a subscription by itself.
    fn drop_subscription(&mut self, page: usize) {
        self.figures.drops += 1;
        self.graph.subscribed[page] = 0;
    }

    fn die(&mut self, page: usize) {
        let until = WallTime(self.now.0 + self.chance.between(50, 20_000));
        match self.chance.below(100) {
            0..=29 => self.at(self.now, Event::Change(page)),
            30..=84 => self.one_page_panics(),
            85..=92 => self.graph.slow_until = until,
            93 | 94 => self.permissions_flicker(),
            _ => self.graph.down_until = until,
        }
    }

    fn relink(&mut self, page: usize) {
        let until = WallTime(self.now.0 + self.chance.between(50, 20_000));
        match self.chance.below(100) {
            0..=4 => self.burst(page),
            5..=44 => self.unlink_page(page),
            45..=84 => self.begin_login(),
            85..=90 => self.spaces.slow_until = until,
            91..=94 => self.disk_slow_until = until,
            95..=97 => self.tamper(),
            98 => self.dispatcher_panics(),
            _ => self.crash(),
        }
    }

    fn burst(&mut self, page: usize) {
        for _ in 0..self.chance.between(1, 4) {
            let at = WallTime(self.now.0 + self.chance.below(4_000));
            self.at(at, Event::Change(page));
        }
    }

    /// Every user logs in, and every page is listed at once.
    pub fn link_all(&mut self) {
        for user in 0..self.plan.users {
            let links = (0..self.plan.pages).map(|page| user * self.plan.pages + page).collect();
            let login = self.new_login(user, user, links);
            self.login_ends(login);
        }
    }

    fn come_and_go(&mut self, page: usize) {
        let until = WallTime(self.now.0 + self.chance.between(50, 20_000));
        match self.chance.below(100) {
            0..=2 => self.burst(page),
            3 => self.permissions_flicker(),
            4 => self.drop_subscription(page),
            5..=54 => self.begin_login(),
            55..=69 => self.person_leaves(),
            70..=79 => self.unlink_page(page),
            80..=84 => self.graph.slow_until = until,
            85..=89 => self.disk_slow_until = until,
            90..=93 => self.disk_bad_until = WallTime(self.now.0 + self.chance.between(20, 5_000)),
            94..=96 => self.one_page_panics(),
            _ => self.crash(),
        }
    }

    fn unlink_page(&mut self, page: usize) {
        let mut links = self.links_of(page);
        if self.chance.percent(60) {
            links.truncate(1);
        }
        let keep = self.chance.percent(40);
        if self.up && !links.is_empty() {
            self.unlink(links, keep);
        }
    }

    fn operator_syncs(&mut self, page: usize) {
        let version = self.graph.version(page);
        let links = self.links_of(page);
        if !self.up || links.is_empty() {
            return;
        }
        let keys: Vec<_> = links.iter().map(|l| self.keys[*l].clone()).collect();
        let links = links.into_iter().map(|l| (l, version)).collect();
        let store = self.store.clone();
        self.ask(async move {
            let ok = store.mark_links(keys, Cause::Manual).await.is_ok();
            Done::Synced { links, ok }
        });
    }

    fn kill_a_token(&mut self) {
        let living: Vec<usize> =
            (0..self.keys.len()).filter_map(|l| self.grant_of(l)).map(|grant| grant.token).collect();
        if !living.is_empty() && self.chance.percent(15) {
            let token = living[self.chance.below(living.len() as u64) as usize];
            self.graph.tokens[token] = false;
        }
    }

    /// A staged body cannot be read back.
    fn damage_a_body(&mut self) {
        let waiting = shown(self.store.outbox_parts());
        if !waiting.is_empty() {
            let at = self.chance.below(waiting.len() as u64) as usize;
            self.committer().lose_body(&waiting[at]);
        }
    }

    /// As often as not one that reads at this moment.
    fn one_page_panics(&mut self) {
        let mut instances: Vec<u64> = self.pages.keys().copied().collect();
        if self.chance.percent(50) && self.pages.values().any(|page| page.is_busy()) {
            instances.retain(|i| self.pages[i].is_busy());
        }
        if !instances.is_empty() {
            let at = self.chance.below(instances.len() as u64) as usize;
            self.page_panics(instances[at]);
        }
    }

    fn reload(&mut self) {
        self.pace.debounce = Duration::from_millis(self.chance.between(0, 4_000));
        (self.pace.burst, self.pace.refill) = match self.plan.flavour {
            Flavour::Racing => {
                (self.chance.between(1, 50) as u32, Duration::from_millis(self.chance.between(50, 2_000)))
            }
            _ => (self.chance.between(1, 5) as u32, Duration::from_secs(self.chance.between(1, 90))),
        };
        if self.chance.percent(40) {
            self.pace.poll_interval = self.plan.poll.mul_f64(0.5 + self.chance.unit());
        }
        self.limit = self.chance.between(1, 8) as usize;
        self.wanted_fields += u32::from(self.chance.percent(25));
        let instances: Vec<u64> = self.directory.values().map(|p| p.instance).collect();
        instances.into_iter().for_each(|i| self.tell_page(i, PageMsg::Reloaded));
        self.tell_uploader(UploaderMsg::Reloaded);
    }

    fn trouble(&mut self) {
        let long = if self.chance.percent(25) { 600_000 } else { 30_000 };
        let until = WallTime(self.now.0 + self.chance.between(50, long));
        match self.chance.below(11) {
            0 => self.graph.down_until = until,
            1 => self.graph.throttled_until = until,
            2 => self.graph.slow_until = until,
            3 => self.spaces.down_until = until,
            4 => self.spaces.misconfigured_until = until,
            5 => self.spaces.slow_until = until,
            6 => self.spaces.ambiguous = self.chance.below(60),
            10 => self.tamper(),
            7 | 8 => self.disk_bad_until = WallTime(self.now.0 + self.chance.between(20, 5_000)),
            _ => self.disk_slow_until = until,
        }
    }

    /// Somebody else deletes an object from the bucket, or writes what the page once was; the poll is to find out.
    fn tamper(&mut self) {
        let l = self.chance.below(self.keys.len() as u64) as usize;
        let there = self.spaces.objects.get(&l).map(|o| o.body);
        let op = match there.filter(|_| self.chance.percent(60)) {
            Some(body) => {
                let version = self.chance.below(body.version as u64 + 1) as usize;
                Op::Put(Body { id: self.fresh(), version, ..body })
            }
            None => Op::Delete,
        };
        self.figures.tampered += 1;
        self.spaces.apply(l, op, true);
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
