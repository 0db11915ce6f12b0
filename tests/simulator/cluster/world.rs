//! The world of several daemons: true time, everything that is going to happen, and the faults. What happens inside of a
//! daemon waits while that daemon is paused; what is on its way between them does not.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;

use pagesyncd::core::lease::BUCKETS;
use pagesyncd::core::model::{LinkKey, PageId, UserId, WallTime};
use pagesyncd::store::seal::Keyring;
use pagesyncd::store::shared::stepped::{Answered, Daemon, Sending, Server};

use super::node::{BEGIN, Node};
use super::outside::{Outside, P, Put};
use super::process::{Done, Env, Link, Process};
use crate::chance::Chance;

/// The clock of the database is wrong by that much.
const AHEAD: u64 = 5 * 3_600_000;
/// Whoever waits for the answer to a delivery gives up after so long.
const DELIVERY: u64 = 20_000;
/// Beats, and looks at the decisions of the others, are so far apart.
const SECOND: u64 = 1_000;
/// Leases are spread evenly so long after the daemons that live are other ones.
const SPREAD: u64 = 15_000;

#[derive(Debug)]
pub enum Event {
    Fault,
    Change(P),
    Deliver(u64),
    /// Nobody has answered this try of a delivery.
    GiveUp(u64, u32),
    Start(usize),
    Resume(usize),
    Reconnect(usize),
    BeatArrives(usize, u64, Sending),
    /// A request to Spaces takes effect, or is lost.
    Lands(u64, bool),
    /// Steps of a process, which end with it.
    Inside(usize, u64, Inside),
}

#[derive(Debug)]
pub enum Inside {
    Goes,
    Ticks,
    Beats,
    BeatAnswered(Answered),
    BeginsTurn,
    EndsTurn,
    TriesAgain,
    Notified,
    /// Spaces has answered a request.
    Written(u64, bool),
    /// The last bit of a request is sent.
    Sent(u64),
}

struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub nodes: usize,
    pub pages: usize,
    /// How long faults go on, and the longest pause between two of them.
    pub faults: u64,
    pub apart: u64,
    /// The longest time between two changes.
    pub changes: u64,
    /// Requests to Spaces that take long, in percent.
    pub slow: u64,
    /// Requests to Spaces that wait for their turn before they are sent, in percent.
    pub queued: u64,
    /// Nothing happens but that one daemon or another is paused for long.
    pub is_pausing: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub steps: u64,
    pub virtual_ms: u64,
    pub deliveries: u64,
    pub reads: u64,
    pub writes: u64,
    pub unanswered: u64,
    pub commits: u64,
    pub kills: u64,
    pub stops: u64,
    pub pauses: u64,
    pub cuts: u64,
    pub lost_answers: u64,
    pub deaths: u64,
    pub comparisons: u64,
}

/// A delivery that nobody has acknowledged.
struct Delivery {
    page: P,
    tries: u32,
}

pub struct World {
    pub now: u64,
    pub chance: Chance,
    pub plan: Plan,
    pub figures: Figures,
    pub trace: Option<VecDeque<String>>,
    pub violation: Option<String>,
    server: Server,
    nodes: Vec<Node>,
    links: Rc<Vec<Link>>,
    outside: Rc<RefCell<Outside>>,
    heap: BinaryHeap<Reverse<Due>>,
    order: u64,
    processes: u64,
    deliveries: BTreeMap<u64, Delivery>,
    /// Requests that are sent bit by bit.
    dribbling: BTreeSet<u64>,
    is_linked: bool,
    /// The incarnations that live, and since when it is these.
    living: Vec<u64>,
    living_since: u64,
}

fn keyring() -> Keyring {
    Keyring::new([7; 32], Vec::new())
}

impl World {
    pub fn new(plan: Plan, seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let user: UserId = "1dce6b30-0000-4000-8000-000000000001".parse().expect("a user");
        let link = |n: usize| {
            let page: PageId = format!("{}", 1_000 + n).parse().expect("a page");
            Link { key: LinkKey::new(user, page.clone()), page }
        };
        let links: Vec<Link> = (0..plan.pages).map(link).collect();
        let outside = Outside { versions: vec![1; plan.pages], ..Outside::default() };
        let nodes = (0..plan.nodes).map(|number| Node::new(number, &mut chance)).collect();
        let mut world = World {
            now: 0,
            chance,
            figures: Figures::default(),
            trace: None,
            violation: None,
            server: Server::new(&keyring()),
            nodes,
            links: Rc::new(links),
            outside: Rc::new(RefCell::new(outside)),
            heap: BinaryHeap::new(),
            order: 0,
            processes: 0,
            deliveries: BTreeMap::new(),
            dribbling: BTreeSet::new(),
            is_linked: false,
            living: Vec::new(),
            living_since: 0,
            plan,
        };
        world.set_time();
        for node in 0..world.plan.nodes {
            // The first one links, and the others join.
            let wait = if node == 0 { 0 } else { world.chance.below(20_000) };
            world.after(wait, Event::Start(node));
        }
        let (fault, change) = (world.chance.between(5_000, 30_000), world.chance.between(1_000, 10_000));
        world.after(fault, Event::Fault);
        world.after(change, Event::Change(0));
        world
    }

    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Due { at: self.now + wait, order: self.order, event }));
    }

    fn inside(&mut self, node: usize, wait: u64, inside: Inside) {
        if let Some(process) = self.nodes[node].process.as_ref().map(|process| process.number) {
            self.after(wait, Event::Inside(node, process, inside));
        }
    }

    fn set_time(&mut self) {
        self.server.set_time(WallTime(BEGIN + AHEAD + self.now));
        self.outside.borrow_mut().now = self.now;
    }

    fn have_faults_ended(&self) -> bool {
        self.now >= self.plan.faults
    }

    /// The next thing happens. `false` when a promise was broken.
    pub fn step(&mut self) -> bool {
        let Some(Reverse(Due { at, event, .. })) = self.heap.pop() else { return false };
        self.now = at;
        self.figures.steps += 1;
        if let Some(trace) = &mut self.trace {
            if trace.len() == 120 {
                trace.pop_front();
            }
            trace.push_back(format!("{at} {event:?}"));
        }
        self.set_time();
        self.happen(event);
        self.judge();
        self.violation.is_none()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault => self.fault(),
            Event::Change(page) => self.change(page),
            Event::Deliver(delivery) => self.deliver(delivery),
            Event::GiveUp(delivery, tries) => {
                if self.deliveries.get(&delivery).is_some_and(|delivery| delivery.tries == tries) {
                    self.deliver(delivery);
                }
            }
            Event::Start(node) => self.start(node),
            Event::Resume(node) => self.resume(node),
            Event::Reconnect(node) => self.nodes[node].way.set_cut(false),
            Event::BeatArrives(node, process, sending) => {
                let is_cut = self.nodes[node].way.is_cut();
                if let Some(answered) = sending.arrives(&self.server).filter(|_| !is_cut) {
                    let wait = self.chance.between(1, 20);
                    self.after(wait, Event::Inside(node, process, Inside::BeatAnswered(answered)));
                    if std::mem::take(&mut self.nodes[node].pauses_in_beat) {
                        self.pause_now(node);
                    }
                }
            }
            Event::Lands(number, takes_effect) => self.outside.borrow_mut().land(number, takes_effect),
            Event::Inside(node, process, inside) => self.step_process(node, process, inside),
        }
    }

    fn change(&mut self, page: P) {
        self.outside.borrow_mut().versions[page] += 1;
        self.order += 1;
        self.deliveries.insert(self.order, Delivery { page, tries: 0 });
        let (delivery, wait) = (self.order, self.chance.below(500));
        self.after(wait, Event::Deliver(delivery));
        if !self.have_faults_ended() {
            let (next, wait) = (self.chance.below(self.plan.pages as u64), self.chance.between(1, self.plan.changes));
            self.after(wait, Event::Change(next as usize));
        }
    }

    /// A delivery goes to any daemon that answers requests, until it is acknowledged.
    fn deliver(&mut self, number: u64) {
        let Some(delivery) = self.deliveries.get_mut(&number) else { return };
        delivery.tries += 1;
        let (page, tries) = (delivery.page, delivery.tries);
        self.after(DELIVERY, Event::GiveUp(number, tries));
        let runs = |node: &&Node| node.process.is_some() && node.paused_until.is_none();
        let count = self.nodes.iter().filter(runs).count() as u64;
        let chosen = self.chance.below(count) as usize;
        let Some(node) = self.nodes.iter().enumerate().filter(|(_, node)| runs(node)).nth(chosen).map(|(n, _)| n)
        else {
            return;
        };
        self.figures.deliveries += 1;
        if let Some(process) = &mut self.nodes[node].process {
            process.deliver(number, page);
        }
        self.settle(node);
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() || self.nodes[node].paused_until.is_some() {
            return;
        }
        let Node { name, way, clocks, .. } = &self.nodes[node];
        let started = Daemon::start(&self.server, way, name, keyring(), clocks.at(self.now));
        let Ok((store, daemon)) = started else {
            let wait = self.chance.between(100, 2_000);
            return self.after(wait, Event::Start(node));
        };
        self.processes += 1;
        let env = Env {
            outside: self.outside.clone(),
            chance: RefCell::new(Chance::new(self.chance.next())),
            queued: self.plan.queued,
            node,
            process: self.processes,
            member: Cell::new(daemon.member()),
            mono: Cell::new(clocks.at(self.now).1.0),
            timers: RefCell::default(),
        };
        let mut process = Process::new(env, self.links.clone(), store, daemon);
        if !self.is_linked {
            process.link(self.links[0].key.user);
            self.is_linked = true;
        }
        self.nodes[node].process = Some(process);
        let (tick, beat) = (self.chance.below(SECOND), self.chance.below(20));
        self.inside(node, tick, Inside::Ticks);
        self.inside(node, beat, Inside::Beats);
        self.settle(node);
    }

    fn resume(&mut self, node: usize) {
        if self.nodes[node].paused_until.is_none_or(|until| until > self.now) {
            return;
        }
        self.nodes[node].paused_until = None;
        self.nodes[node].clocks.wake(self.now);
        // Whatever was held up happens soon, and in any order; an answer that lies there is often read first.
        for (process, inside) in std::mem::take(&mut self.nodes[node].held_up) {
            let is_first = matches!(inside, Inside::BeatAnswered(_)) && self.chance.percent(60);
            let wait = if is_first { 0 } else { self.chance.between(1, 60) };
            self.after(wait, Event::Inside(node, process, inside));
        }
        self.nodes[node].poll_at = None;
        self.inside(node, 60, Inside::Goes);
        self.after(1, Event::Start(node));
    }

    fn step_process(&mut self, node: usize, number: u64, inside: Inside) {
        let now = self.now;
        let Node { process, paused_until, held_up, clocks, way, .. } = &mut self.nodes[node];
        let Some(process) = process.as_mut().filter(|process| process.number == number) else { return };
        if paused_until.is_some() {
            return held_up.push_back((number, inside));
        }
        let (wall, mono) = clocks.at(now);
        process.daemon.set_time(wall, mono);
        process.env.mono.set(mono.0);
        let (second, is_cut, daemon) = (clocks.lasts(SECOND), way.is_cut(), &mut process.daemon);
        let sent = if let Inside::Sent(number) = inside { Some(number) } else { None };
        match inside {
            Inside::Goes => self.nodes[node].poll_at = None,
            Inside::Ticks => {
                if self.nodes[node].is_kept_waiting(now).is_none()
                    && let Some(process) = &mut self.nodes[node].process
                {
                    process.daemon.follow();
                }
                self.inside(node, second, Inside::Ticks);
            }
            Inside::Beats => {
                let sending = daemon.beat().filter(|_| !is_cut);
                if let Some(sending) = sending {
                    let wait = self.chance.between(1, 20);
                    self.after(wait, Event::BeatArrives(node, number, sending));
                }
                self.inside(node, second, Inside::Beats);
            }
            Inside::BeatAnswered(answered) => daemon.beat_answered(answered),
            Inside::BeginsTurn => self.begin_turn(node),
            Inside::EndsTurn => self.end_turn(node),
            Inside::TriesAgain => {
                daemon.try_again();
                self.nodes[node].retry_is_due = false;
            }
            Inside::Notified => daemon.notified(),
            Inside::Written(number, done) => {
                self.outside.borrow_mut().answers.insert(number, done);
            }
            // A task whose right has ended meanwhile sends nothing more.
            Inside::Sent(_) => {}
        }
        self.settle(node);
        if let Some(number) = sent.filter(|number| self.dribbling.remove(number)) {
            self.outside.borrow_mut().land(number, true);
            let wait = self.chance.between(1, 100);
            self.inside(node, wait, Inside::Written(number, true));
        }
    }

    fn begin_turn(&mut self, node: usize) {
        if let Some(left) = self.nodes[node].is_kept_waiting(self.now) {
            return self.inside(node, left, Inside::BeginsTurn);
        }
        self.nodes[node].turn_is_due = false;
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.daemon.is_down() || process.daemon.is_in_turn() {
            return;
        }
        if !process.daemon.begin_turn() {
            self.nodes[node].lock_is_taken = true;
            return;
        }
        let slow = self.chance.percent(5);
        let wait = if slow { self.chance.between(50, 2_000) } else { self.chance.between(1, 15) };
        self.inside(node, wait, Inside::EndsTurn);
    }

    fn end_turn(&mut self, node: usize) {
        if let Some(left) = self.nodes[node].is_kept_waiting(self.now) {
            return self.inside(node, left, Inside::EndsTurn);
        }
        let before = self.server.head();
        if let Some(process) = &mut self.nodes[node].process {
            process.daemon.end_turn();
        }
        if self.server.head() == before {
            return;
        }
        for other in 0..self.nodes.len() {
            if other != node && !self.nodes[other].way.is_cut() && self.chance.percent(85) {
                let wait = self.chance.between(1, 40);
                self.inside(other, wait, Inside::Notified);
            }
        }
    }

    /// After a step of a daemon: its tasks go on, and what follows is to happen.
    fn settle(&mut self, node: usize) {
        let now = self.now;
        let Node { process, clocks, .. } = &mut self.nodes[node];
        let Some(process) = process else { return };
        let (wall, mono) = clocks.at(now);
        process.daemon.set_time(wall, mono);
        process.env.mono.set(mono.0);
        process.env.member.set(process.daemon.member());
        let answers = process.go_on();
        let wants_turn = process.daemon.wants_turn();
        let (is_down, timer) = (process.daemon.is_down(), process.env.timers.borrow().first().copied());
        answers.into_iter().for_each(|done| self.answered(done));
        if wants_turn && !self.nodes[node].turn_is_due {
            self.nodes[node].turn_is_due = true;
            let is_busy = std::mem::take(&mut self.nodes[node].lock_is_taken);
            let wait = if is_busy { self.chance.between(5, 60) } else { self.chance.between(0, 4) };
            self.inside(node, wait, Inside::BeginsTurn);
        }
        if is_down && !self.nodes[node].retry_is_due {
            self.nodes[node].retry_is_due = true;
            let wait = self.chance.between(100, 2_000);
            self.inside(node, wait, Inside::TriesAgain);
        }
        if let Some(timer) = timer {
            let at = now + self.nodes[node].clocks.lasts(timer.saturating_sub(mono.0)).max(1);
            if self.nodes[node].poll_at.is_none_or(|poll| poll > at) {
                self.nodes[node].poll_at = Some(at);
                self.inside(node, at - now, Inside::Goes);
            }
        }
        self.send_to_spaces();
        self.dribbling_of(node).into_iter().for_each(|number| self.outside.borrow_mut().go_on(number));
    }

    fn answered(&mut self, done: Done) {
        match done {
            Done::Linked(false) => {
                // Nothing has failed yet that the person could not try again.
                self.is_linked = false;
                let starting = self.nodes.iter_mut().find_map(|node| node.process.as_mut());
                if let Some(process) = starting {
                    process.link(self.links[0].key.user);
                    self.is_linked = true;
                }
            }
            Done::Delivered(delivery, true) => {
                self.deliveries.remove(&delivery);
            }
            Done::Delivered(delivery, false) => {
                let wait = self.chance.between(300, 3_000);
                self.after(wait, Event::Deliver(delivery));
            }
            Done::Linked(true) | Done::Read(..) | Done::Wrote(..) => {}
        }
    }

    /// The requests that this node sends bit by bit.
    fn dribbling_of(&self, node: usize) -> Vec<u64> {
        let flying = &self.outside.borrow().flying;
        let is_of = |number: &&u64| flying.get(*number).is_some_and(|put| put.node == node);
        self.dribbling.iter().filter(is_of).copied().collect()
    }

    /// What becomes of the requests that were sent just now.
    fn send_to_spaces(&mut self) {
        let begun = std::mem::take(&mut self.outside.borrow_mut().begun);
        for number in begun {
            let Some(put) = self.outside.borrow().flying.get(&number).copied() else { continue };
            let inside = |inside| Event::Inside(put.node, put.process, inside);
            if self.nodes[put.node].spaces_cut_until > self.now && self.chance.percent(50) {
                // The connection is refused; nothing was sent.
                self.outside.borrow_mut().land(number, false);
                self.after(1, inside(Inside::Written(number, false)));
                continue;
            }
            if !self.have_faults_ended() && self.chance.percent(self.plan.slow) {
                self.dribbling.insert(number);
                let wait = self.chance.between(500, 100_000);
                self.after(wait, inside(Inside::Sent(number)));
                continue;
            }
            self.send_whole(number, put);
        }
        let cut_off = std::mem::take(&mut self.outside.borrow_mut().cut_off);
        for number in cut_off {
            if self.dribbling.remove(&number) {
                // Its end may have been under way.
                let rests = self.outside.borrow().flying.get(&number).is_none_or(|put| put.rests);
                let wait = if rests { 0 } else { self.chance.below(4_000) };
                let takes_effect = !rests && self.chance.percent(50);
                self.after(wait, Event::Lands(number, takes_effect));
            }
        }
    }

    /// One that was sent whole takes effect within 34 seconds, or not at all.
    fn send_whole(&mut self, number: u64, put: Put) {
        let (is_cut, has_ended) = (self.nodes[put.node].spaces_cut_until > self.now, self.have_faults_ended());
        let chance = &mut self.chance;
        let lands = match (has_ended || !chance.percent(self.plan.slow), chance.below(3)) {
            (true, _) => chance.between(2, 300),
            (false, 0) => chance.between(20_000, 34_000),
            (false, _) => chance.between(1_000, 25_000),
        };
        let is_lost = is_cut || (!has_ended && chance.percent(4));
        let is_unheard = !has_ended && chance.percent(6);
        let answered = lands + chance.between(1, 100);
        self.after(lands, Event::Lands(number, !is_lost));
        if !is_lost && !is_unheard {
            self.after(answered, Event::Inside(put.node, put.process, Inside::Written(number, true)));
        }
    }

    /// What must hold after every step.
    fn judge(&mut self) {
        for committed in self.server.take_committed() {
            self.figures.commits += 1;
            if committed.was_dead {
                self.fail(format!("an incarnation that was declared dead has decided: {committed:?}"));
            }
        }
        let living = self.server.living();
        if living != self.living {
            self.figures.deaths += self.living.iter().filter(|id| !living.contains(id)).count() as u64;
            (self.living, self.living_since) = (living, self.now);
        }
        let violation = self.outside.borrow_mut().violation.take();
        if let Some(violation) = violation {
            self.fail(violation);
        }
        if self.figures.steps.is_multiple_of(300) {
            self.compare();
        }
    }

    /// A memory that is as new as the database has what the database has.
    fn compare(&mut self) {
        let compared: Vec<(usize, Result<(), String>)> = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(number, node)| Some((number, node.process.as_ref()?.daemon.compare()?)))
            .collect();
        for (number, outcome) in compared {
            self.figures.comparisons += 1;
            if let Err(differs) = outcome {
                self.fail(format!("the memory of node {number} is another one: {differs}"));
            }
        }
    }
}

/// Faults.
impl World {
    fn fault(&mut self) {
        if self.have_faults_ended() {
            return;
        }
        let wait = self.chance.between(200, self.plan.apart);
        self.after(wait, Event::Fault);
        let node = self.chance.below(self.nodes.len() as u64) as usize;
        let kind = if self.plan.is_pausing { 20 } else { self.chance.below(100) };
        match kind {
            0..14 => self.kill(node),
            14..40 => self.pause(node),
            40..55 => self.cut(node),
            // The database itself is away.
            55..58 => (0..self.nodes.len()).for_each(|node| self.cut(node)),
            58..68 => {
                let wait = self.chance.between(500, 60_000);
                self.nodes[node].spaces_cut_until = self.now + wait;
            }
            68..84 => {
                self.figures.lost_answers += 1;
                let committed = self.chance.percent(60);
                self.nodes[node].way.lose_answer(committed);
            }
            84..92 => self.stop(node),
            _ => {
                let Node { clocks, .. } = &mut self.nodes[node];
                clocks.set_wall(self.now, &mut self.chance);
            }
        }
    }

    fn restart_later(&mut self, node: usize) {
        let wait = if self.chance.percent(50) { self.chance.between(50, 3_000) } else { self.chance.below(60_000) };
        self.after(wait, Event::Start(node));
    }

    fn count(&mut self, process: &Process) {
        self.figures.reads += process.figures.reads;
        self.figures.writes += process.figures.writes;
        self.figures.unanswered += process.figures.unanswered;
    }

    fn kill(&mut self, node: usize) {
        // What it has sent is on its way.
        let Some(process) = self.nodes[node].take_process() else { return };
        self.figures.kills += 1;
        self.count(&process);
        process.kill();
        self.nodes[node].paused_until = None;
        self.nodes[node].clocks.wake(self.now);
        self.restart_later(node);
    }

    /// One that is asked to stop while a write is under way ends before that write does.
    fn stop(&mut self, node: usize) {
        if self.nodes[node].paused_until.is_some() {
            return;
        }
        let Some(process) = self.nodes[node].take_process() else { return };
        self.figures.stops += 1;
        self.count(&process);
        let clocks = self.nodes[node].clocks.at(self.now);
        process.stop(clocks);
        self.restart_later(node);
    }

    fn pause(&mut self, node: usize) {
        if self.plan.is_pausing || self.chance.percent(40) {
            self.nodes[node].pauses_in_beat = true;
        } else {
            self.pause_now(node);
        }
    }

    fn pause_now(&mut self, node: usize) {
        if self.nodes[node].paused_until.is_some() || self.nodes[node].process.is_none() {
            return;
        }
        self.figures.pauses += 1;
        let wait = match (self.plan.is_pausing, self.chance.percent(40)) {
            (true, _) => self.chance.between(42_000, 100_000),
            (false, true) => self.chance.between(5_000, 90_000),
            (false, false) => self.chance.between(100, 5_000),
        };
        self.nodes[node].paused_until = Some(self.now + wait);
        for number in self.dribbling_of(node) {
            if self.chance.percent(50) {
                // All of it is in the hands of the network.
                self.dribbling.remove(&number);
                let wait = self.chance.below(4_000);
                self.after(wait, Event::Lands(number, true));
            } else {
                self.outside.borrow_mut().rest(number);
            }
        }
        if self.chance.percent(30) {
            let now = self.now;
            self.nodes[node].clocks.sleep(now);
        }
        self.after(wait, Event::Resume(node));
    }

    fn cut(&mut self, node: usize) {
        self.figures.cuts += 1;
        self.nodes[node].way.set_cut(true);
        self.nodes[node].is_cut_silently = self.chance.percent(50);
        let wait = if self.chance.percent(50) { self.chance.between(200, 4_000) } else { self.chance.below(60_000) };
        self.after(wait, Event::Reconnect(node));
    }

    /// From here on nothing fails any more.
    pub fn heal(&mut self) {
        for node in 0..self.nodes.len() {
            self.nodes[node].way.set_cut(false);
            self.nodes[node].way.lose_nothing();
            self.nodes[node].pauses_in_beat = false;
            self.nodes[node].spaces_cut_until = 0;
            if self.nodes[node].paused_until.is_some() {
                self.nodes[node].paused_until = Some(self.now);
                self.resume(node);
            }
            self.after(1, Event::Start(node));
        }
    }
}

/// What must hold when nothing fails any more.
impl World {
    /// Is it time to look at the leases?
    pub fn is_spread_by_now(&self) -> bool {
        let since = self.living_since.max(self.plan.faults);
        self.now >= since + SPREAD && self.living.len() == self.nodes.len()
    }

    /// Leases are spread evenly over all daemons, but for so many: a bucket with work under way stays until that has ended.
    pub fn check_spread(&mut self, busy: usize) {
        let share = usize::from(BUCKETS).div_ceil(self.nodes.len());
        let least = usize::from(BUCKETS) - share * (self.nodes.len() - 1);
        for node in 0..self.nodes.len() {
            let Some(process) = &self.nodes[node].process else { continue };
            let held = process.daemon.leases().get(&process.daemon.member()).copied().unwrap_or_default();
            if held > share + busy || held + busy < least {
                self.fail(format!(
                    "node {node} has {held} leases, {least} to {share} are its share, give or take {busy}"
                ));
            }
        }
    }

    /// Every object is what its page shows, nothing is owed, and all memories are the same.
    pub fn check_at_rest(&mut self) {
        let outside = self.outside.borrow();
        let mut found = Vec::new();
        for (page, version) in outside.versions.iter().enumerate() {
            let object = outside.objects.get(&page).map(|object| object.version);
            if object != Some(*version) {
                found.push(format!("page {page} shows version {version}, and Spaces has {object:?}"));
            }
        }
        drop(outside);
        if !self.deliveries.is_empty() {
            found.push(format!("{} deliveries are not acknowledged", self.deliveries.len()));
        }
        let head = self.server.head();
        for node in &self.nodes {
            let owed = node.process.as_ref().map_or(Some("it does not run".to_owned()), Process::owes);
            found.extend(owed.map(|owed| format!("{}: {owed}", node.name)));
        }
        for node in 0..self.nodes.len() {
            let process = self.nodes[node].process.take();
            if let Some(process) = process {
                self.count(&process);
                match process.daemon.compare() {
                    Some(Ok(())) => {}
                    Some(Err(differs)) => found.push(format!("node {node}: {differs}")),
                    None => found.push(format!("node {node} is behind version {head}, or down")),
                }
                process.kill();
            }
        }
        if let Some(first) = found.first() {
            self.fail(format!("at rest: {first} ({} such findings)", found.len()));
        }
    }
}
