//! Those who pour webhooks in, and the book of what was promised: for each page the number of its latest edit, and
//! the number of the latest edit whose webhook was answered 200. An edit always comes before its webhook, so that an
//! answer of 200 to edit `n` promises an object that shows `n` or a later edit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pagesyncd::sandbox::World;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::fixture::Fixture;

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
    world: World,
    address: String,
    promises: BTreeMap<String, Mutex<Promise>>,
    pages: Vec<String>,
    pub answers: Answers,
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

/// A delivery that names these pages.
pub fn delivery(pages: &[String]) -> String {
    let entry = |page: &String| json!({"id": page, "time": 1_763_769_600, "changed_fields": ["description"]});
    let entries: Vec<Value> = pages.iter().map(entry).collect();
    json!({"object": "page", "entry": entries}).to_string()
}

impl Book {
    pub fn of(fixture: &Fixture) -> Arc<Book> {
        Arc::new(Book {
            world: fixture.world().clone(),
            address: format!("{}/facebook/webhook", fixture.base),
            promises: fixture.pages.iter().map(|page| (page.clone(), Mutex::default())).collect(),
            pages: fixture.pages.clone(),
            answers: Answers::default(),
        })
    }

    fn promise_mut(&self, page: &str) -> MutexGuard<'_, Promise> {
        self.promises[page].lock().unwrap()
    }

    pub fn promise(&self, page: &str) -> Promise {
        *self.promise_mut(page)
    }

    /// The pages whose latest edit nobody acknowledged.
    pub fn unacknowledged(&self) -> Vec<String> {
        let open = |page: &&String| {
            let promise = self.promise(page);
            promise.edited > promise.acknowledged
        };
        self.pages.iter().filter(open).cloned().collect()
    }

    /// Edits the pages; the edits' numbers.
    pub fn edit(&self, pages: &[String]) -> Vec<u64> {
        let edit = |page: &String| {
            // Held over the edit, so that numbers and states of a page go together.
            let mut promise = self.promise_mut(page);
            promise.edited += 1;
            let text = format!("Edit {}", promise.edited);
            self.world.edit_page(page, "description", text.into()).unwrap();
            promise.edited
        };
        pages.iter().map(edit).collect()
    }

    /// Tells of edits that were made; was it acknowledged?
    pub async fn tell(&self, http: &reqwest::Client, pages: &[String], numbers: &[u64]) -> bool {
        let body = delivery(pages);
        let signature = self.world.sign(body.as_bytes());
        let sent = http.post(&self.address).header("x-hub-signature-256", signature).body(body).send().await;
        let status = match sent {
            Ok(answer) => answer.status().as_u16(),
            Err(_) => {
                self.answers.unanswered.fetch_add(1, Ordering::Relaxed);
                return false;
            }
        };
        match status {
            200 => {
                self.answers.acknowledged.fetch_add(1, Ordering::Relaxed);
                for (page, number) in pages.iter().zip(numbers) {
                    let mut promise = self.promise_mut(page);
                    promise.acknowledged = promise.acknowledged.max(*number);
                }
            }
            503 => {
                self.answers.unavailable.fetch_add(1, Ordering::Relaxed);
            }
            other => self.answers.wrong.lock().unwrap().push(format!("a delivery was answered {other}")),
        }
        status == 200
    }

    /// Tells of all that nobody acknowledged so far.
    pub async fn tell_again(&self, http: &reqwest::Client) {
        for pages in self.unacknowledged().chunks(10) {
            let numbers: Vec<u64> = pages.iter().map(|page| self.promise(page).edited).collect();
            self.tell(http, pages, &numbers).await;
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
                    let pages: Vec<String> = book.pages.choose_multiple(&mut dice, count).cloned().collect();
                    let numbers = book.edit(&pages);
                    book.tell(&http, &pages, &numbers).await;
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
