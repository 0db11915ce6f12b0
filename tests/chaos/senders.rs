//! Those who pour webhooks in, and the book of what was promised: for each thing the number of its latest edit, and
//! the number of the latest edit whose webhook was answered 200. An edit always comes before its webhook, so that an
//! answer of 200 to edit `n` promises an object that shows `n` or a later edit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::catalogue::Shelf;
use crate::fixture::Fixture;
use crate::things::{Delivery, Sources, Thing, deliveries};

/// How often a sender makes a product come or go, beside a delivery.
const TURNS: f64 = 0.1;

#[derive(Debug, Clone, Copy, Default)]
pub struct Promise {
    /// The latest edit.
    pub edited: u64,
    /// The latest edit that was acknowledged.
    pub acknowledged: u64,
}

/// How deliveries were answered.
#[derive(Debug, Default)]
pub struct Answers {
    pub acknowledged: AtomicU64,
    pub unavailable: AtomicU64,
    pub unanswered: AtomicU64,
    /// Answers that no delivery may get, whatever burns.
    pub wrong: Mutex<Vec<String>>,
}

pub struct Book {
    sources: Sources,
    base: String,
    promises: BTreeMap<Thing, Mutex<Promise>>,
    things: Vec<Thing>,
    pub shelf: Shelf,
    pub answers: Answers,
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

impl Book {
    pub fn of(fixture: &Fixture) -> Arc<Book> {
        let things = fixture.things();
        Arc::new(Book {
            sources: fixture.sources(),
            base: fixture.base.clone(),
            promises: things.iter().map(|thing| (thing.clone(), Mutex::default())).collect(),
            things,
            shelf: Shelf::of(fixture),
            answers: Answers::default(),
        })
    }

    fn promise_mut(&self, thing: &Thing) -> MutexGuard<'_, Promise> {
        self.promises[thing].lock().unwrap()
    }

    pub fn promise(&self, thing: &Thing) -> Promise {
        *self.promise_mut(thing)
    }

    /// The things whose latest edit nobody acknowledged.
    pub fn unacknowledged(&self) -> Vec<Thing> {
        let open = |thing: &&Thing| {
            let promise = self.promise(thing);
            promise.edited > promise.acknowledged
        };
        self.things.iter().filter(open).cloned().collect()
    }

    /// Edits the things; the edits' numbers.
    pub fn edit(&self, things: &[Thing]) -> Vec<u64> {
        let edit = |thing: &Thing| {
            // Held over the edit, so that numbers and states of a thing go together.
            let mut promise = self.promise_mut(thing);
            promise.edited += 1;
            thing.edit(&self.sources, promise.edited);
            promise.edited
        };
        things.iter().map(edit).collect()
    }

    /// Tells of edits that were made; was all of it acknowledged?
    pub async fn tell(&self, http: &reqwest::Client, things: &[Thing], numbers: &[u64]) -> bool {
        let mut is_taken = true;
        for delivery in deliveries(&self.sources, things) {
            let names = delivery.names.clone();
            if !self.post(http, delivery).await {
                is_taken = false;
                continue;
            }
            for place in names {
                let mut promise = self.promise_mut(&things[place]);
                promise.acknowledged = promise.acknowledged.max(numbers[place]);
            }
        }
        is_taken
    }

    /// A product comes or goes, which is announced.
    async fn turn_shelf(&self, http: &reqwest::Client, dice: &mut StdRng) {
        if let Some(place) = self.shelf.turn(dice) {
            self.tell_of_shelf(http, place).await;
        }
    }

    async fn tell_of_shelf(&self, http: &reqwest::Client, place: usize) {
        let (delivery, taken) = self.shelf.delivery(place);
        if self.post(http, delivery).await {
            taken(&self.shelf);
        }
    }

    /// Was all of it acknowledged?
    pub fn is_acknowledged(&self) -> bool {
        self.unacknowledged().is_empty() && self.shelf.unacknowledged().is_empty()
    }

    async fn post(&self, http: &reqwest::Client, delivery: Delivery) -> bool {
        let mut request = http.post(format!("{}{}", self.base, delivery.path)).body(delivery.body);
        for (name, value) in delivery.headers {
            request = request.header(name, value);
        }
        let Ok(answer) = request.send().await else {
            self.answers.unanswered.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        match answer.status().as_u16() {
            200 => drop(self.answers.acknowledged.fetch_add(1, Ordering::Relaxed)),
            503 => drop(self.answers.unavailable.fetch_add(1, Ordering::Relaxed)),
            other => {
                self.answers.wrong.lock().unwrap().push(format!("{} answered {other}", delivery.path));
            }
        }
        answer.status() == 200
    }

    /// Tells of all that nobody acknowledged so far.
    pub async fn tell_again(&self, http: &reqwest::Client) {
        for things in self.unacknowledged().chunks(10) {
            let numbers: Vec<u64> = things.iter().map(|thing| self.promise(thing).edited).collect();
            self.tell(http, things, &numbers).await;
        }
        for place in self.shelf.unacknowledged() {
            self.tell_of_shelf(http, place).await;
        }
    }
}

/// Senders at work until they are stopped.
pub struct Senders {
    go: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Senders {
    /// So many senders, each with connections of its own and pauses of up to `pause` between deliveries.
    pub fn begin(book: &Arc<Book>, count: u64, pause: Duration, seed: u64) -> Senders {
        let go = Arc::new(AtomicBool::new(true));
        let task = |number| {
            let (book, go) = (book.clone(), go.clone());
            let mut dice = StdRng::seed_from_u64(seed.wrapping_add(number));
            tokio::spawn(async move {
                let http = client();
                while go.load(Ordering::Relaxed) {
                    let count = dice.random_range(1..=4);
                    let things: Vec<Thing> = book.things.choose_multiple(&mut dice, count).cloned().collect();
                    let numbers = book.edit(&things);
                    book.tell(&http, &things, &numbers).await;
                    if dice.random_bool(TURNS) {
                        book.turn_shelf(&http, &mut dice).await;
                    }
                    tokio::time::sleep(pause.mul_f64(dice.random())).await;
                }
            })
        };
        Senders { tasks: (0..count).map(task).collect(), go }
    }

    /// No more; waits for the answers that are under way.
    pub async fn end(self) {
        self.go.store(false, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
