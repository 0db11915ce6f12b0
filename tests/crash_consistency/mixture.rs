//! The daemon's store under the daemon's own mixture: pages linked and linked again, marks, reads staged with bodies of
//! many lengths, writes settled, links dropped, sessions, login links, used states, deletions; and the events of it.
//!
//! Each task has users and pages of its own and does one thing at a time, so it knows what will stand after each; what
//! runs side by side shares transactions all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use pagesyncd::core::event::EventKey;
use pagesyncd::core::ledger::ObjectOp;
use pagesyncd::core::model::{AppUserId, Cause, LinkKey, PageId, Secret, UserId, WallTime};
use pagesyncd::store::persons::{NewAccount, NewLink};
use pagesyncd::store::seal::Keyring;
use pagesyncd::store::sessions::Session;
use pagesyncd::store::unlink::Unlinking;
use pagesyncd::store::{Left, StageOutcome, Store};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::log::{Journalist, NOTHING, Words};
use crate::writer::Job;

const USERS: u32 = 2;
const PAGES: u64 = 16;
const DAY: Duration = Duration::from_secs(86_400);

fn open(dir: &Path) -> Result<Store, String> {
    Store::open(dir, Keyring::new([7; 32], Vec::new())).map_err(|e| e.to_string())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn user(task: u32, number: u32) -> UserId {
    UserId(Uuid::from_u128(u128::from(task * USERS + number) + 1))
}

fn page(task: u32, number: u64) -> PageId {
    (u64::from(task + 1) * 10_000 + number).to_string().parse().unwrap()
}

/// Each user has one login.
fn person(user: UserId) -> AppUserId {
    user.0.as_u128().to_string().parse().unwrap()
}

/// A number stands for a body of 200 bytes to 40 KB, and for its digest.
fn body(number: u64) -> bytes::Bytes {
    let mut rng = StdRng::seed_from_u64(number);
    let mut body = vec![0; rng.random_range(200..=40 << 10)];
    rng.fill_bytes(&mut body);
    body.into()
}

fn digest(number: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    digest
}

fn number(digest: [u8; 32]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().unwrap())
}

/// What is owed to Spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Owed {
    Put(u64),
    Delete,
}

/// Everything of a link that shows from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    token: Option<String>,
    mark: Option<Cause>,
    owed: Option<Owed>,
    synced: Option<u64>,
}

impl State {
    async fn of(store: &Store, link: &LinkKey) -> Result<State, String> {
        let found = store.link(link).await.map_err(|e| e.to_string())?;
        let token = found.map(|found| found.token).transpose().map_err(|e| e.to_string())?;
        let token = token.map(|token| token.expose().to_owned());
        let owed = match store.outbox_item(link).await.map_err(|e| e.to_string())? {
            None => None,
            Some(item) => Some(match item.staged.op {
                ObjectOp::Delete => Owed::Delete,
                ObjectOp::Put(digest) if item.body == body(number(digest)) => Owed::Put(number(digest)),
                ObjectOp::Put(digest) => return Err(format!("{link}: another body than {}'s", number(digest))),
            }),
        };
        let expectation = store.expectation(link).await.unwrap();
        let synced = expectation.digest.map(number);
        if expectation.etag != synced.map(|n| n.to_string()) {
            return Err(format!("{link}: the etag {:?} does not belong to {synced:?}", expectation.etag));
        }
        let mark = store.mark(link).await.map_err(|e| e.to_string())?.filter(|standing| !standing.is_claimed);
        let mark = mark.map(|standing| standing.mark.cause);
        Ok(State { token, mark, owed, synced })
    }

    fn words(&self) -> String {
        if *self == State::default() { NOTHING.into() } else { serde_json::to_string(self).unwrap() }
    }

    fn from_words(words: &str) -> Self {
        if words == NOTHING { State::default() } else { serde_json::from_str(words).unwrap() }
    }

    /// What the journal answers for: the token, and a delete that is owed.
    fn journaled(self) -> Self {
        let owed = self.owed.filter(|owed| *owed == Owed::Delete);
        State { token: self.token, owed, ..State::default() }
    }
}

async fn account_words(store: &Store, user: UserId) -> String {
    let token = store.account(user, &person(user)).await.unwrap().and_then(|(_, token)| token);
    token.map_or(NOTHING.into(), |token| token.expose().to_owned())
}

/// Cuts that came in the middle of a renewal.
pub static IN_RENEWALS: AtomicU64 = AtomicU64::new(0);

/// The store in this folder must be whole; what it says of these names.
pub fn look(dir: &Path, names: &BTreeSet<String>) -> Result<Words, String> {
    let in_renewal = ["sled.new", "sled.old", "links.journal.new"].iter().any(|name| dir.join(name).exists());
    IN_RENEWALS.fetch_add(u64::from(in_renewal), Ordering::Relaxed);
    let store = open(dir).map_err(|e| format!("it does not open: {e}"))?;
    runtime().block_on(async {
        let found = match (store.mended(), store.counts().await.unwrap().damaged) {
            (Some(mended), _) => Err(format!("it had to be mended: {mended}")),
            (None, 0) => ask_all(&store, names).await,
            (None, damaged) => Err(format!("{damaged} records were damaged")),
        };
        store.close().await;
        found
    })
}

async fn ask_all(store: &Store, names: &BTreeSet<String>) -> Result<Words, String> {
    let words = ask(store, names).await?;
    events_wait(store, words).await
}

/// Nobody takes events here, so there is one of every link that stands: it went to disk with the link.
async fn events_wait(store: &Store, words: Words) -> Result<Words, String> {
    let lanes: BTreeSet<EventKey> = store.event_keys().await.unwrap().into_iter().collect();
    let untold: Vec<_> = store
        .links()
        .await
        .unwrap()
        .into_iter()
        .filter(|link| !lanes.contains(&EventKey::Link(link.clone())))
        .collect();
    if untold.is_empty() { Ok(words) } else { Err(format!("nothing is notified of {untold:?}")) }
}

async fn ask(store: &Store, names: &BTreeSet<String>) -> Result<Words, String> {
    let unknown: Vec<_> =
        store.links().await.unwrap().iter().map(link_name).filter(|name| !names.contains(name)).collect();
    if !unknown.is_empty() {
        return Err(format!("nobody linked {unknown:?}"));
    }
    let asked = names.iter().map(async |name| Ok((name.clone(), look_at(store, name).await?)));
    join_all(asked).await.into_iter().collect()
}

/// If the database itself had gone with the power, the journal would have to know what it answers for.
pub fn without_database(dir: &Path, settled: &Words) -> Result<(), String> {
    let journal = dir.join("links.journal");
    let alone = dir.with_file_name("alone");
    let expected: Words = settled.iter().filter_map(|(name, words)| journaled(name, words)).collect();
    if expected.is_empty() && !journal.exists() {
        return Ok(());
    }
    fs::create_dir(&alone).unwrap();
    fs::copy(&journal, alone.join("links.journal")).map_err(|e| format!("the journal is not there: {e}"))?;
    let store = open(&alone).map_err(|e| format!("the journal alone does not open: {e}"))?;
    let found = runtime().block_on(async {
        let links = store.links().await.unwrap();
        let names = expected.keys().cloned().chain(links.iter().map(link_name)).collect();
        let found = ask_all(&store, &names).await;
        store.close().await;
        found
    });
    drop(store);
    fs::remove_dir_all(alone).unwrap();
    let found: Words = found?.iter().filter_map(|(name, words)| journaled(name, words)).collect();
    let wrong = expected.iter().find(|(name, words)| found.get(*name) != Some(*words));
    wrong.map_or(Ok(()), |(name, words)| {
        Err(format!("{name}: acknowledged {words:?}, in the journal alone {:?}", found.get(name)))
    })
}

fn journaled(name: &str, words: &str) -> Option<(String, String)> {
    let words = match name.split_once('/')?.0 {
        "link" => State::from_words(words).journaled().words(),
        "account" | "session" | "deletion" => words.to_owned(),
        _ => return None,
    };
    Some((name.to_owned(), words))
}

#[test]
fn a_disk_that_was_looked_at_is_expected_as_the_look_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["nonce/6f0a2f3e-7a1e-4a5c-9b7e-0d8f5c1e2a3b", "session/unknown", "login/unknown"];
    let names: BTreeSet<String> = names.map(str::to_owned).into();
    let first = look(dir.path(), &names).unwrap();
    assert_eq!(first["nonce/6f0a2f3e-7a1e-4a5c-9b7e-0d8f5c1e2a3b"], NOTHING);
    let expected = after_looking(first);
    let second = look(dir.path(), &names).unwrap();
    assert!(expected.iter().all(|(name, words)| second[name] == *words), "{expected:?} {second:?}");
}

async fn look_at(store: &Store, name: &str) -> Result<String, String> {
    let (kind, rest) = name.split_once('/').unwrap();
    let said = |there: bool, word: &str| if there { word.to_owned() } else { NOTHING.to_owned() };
    Ok(match kind {
        "link" => {
            let (user, page) = rest.split_once('/').unwrap();
            State::of(store, &LinkKey::new(user.parse().unwrap(), page.parse().unwrap())).await?.words()
        }
        "account" => account_words(store, rest.parse().unwrap()).await,
        "session" => said(store.session(rest).await.map_err(|e| e.to_string())?.is_some(), "open"),
        "login" => said(store.take_login(rest).await.map_err(|e| e.to_string())?.is_some(), "fresh"),
        "deletion" => said(store.deletion(rest).await.unwrap().is_some(), "noted"),
        "nonce" => {
            let nonce = rest.parse::<Uuid>().unwrap().into_bytes();
            let first = store.use_state(nonce, WallTime::now().plus(DAY)).await.map_err(|e| e.to_string())?;
            said(!first, "used")
        }
        _ => return Err(format!("what is {name}?")),
    })
}

/// A look uses some records up: a login link is gone then, and a nonce is used. A look finds an unused nonce when the
/// power was cut before its operation was durable.
pub fn after_looking(words: Words) -> Words {
    let kept = words.into_iter().filter(|(name, _)| !name.starts_with("login/"));
    kept.map(|(name, words)| if name.starts_with("nonce/") { (name, "used".into()) } else { (name, words) }).collect()
}

fn link_name(link: &LinkKey) -> String {
    format!("link/{}/{}", link.user, link.id)
}

fn account_name(user: UserId) -> String {
    format!("account/{user}")
}

/// Writes until it is killed.
pub fn write(job: &Job, journalist: &'static Journalist) {
    let store = open(&job.dir).unwrap();
    store.switch_events(true);
    runtime().block_on(async {
        let tasks = (0..job.tasks).map(|task| tokio::spawn(Task::start(store.clone(), job.seed, task, journalist)));
        for ended in tasks.collect::<Vec<_>>() {
            ended.await.unwrap();
        }
    });
}

struct Task {
    store: Store,
    rng: StdRng,
    task: u32,
    journalist: &'static Journalist,
    links: BTreeMap<LinkKey, State>,
    sessions: Vec<Session>,
    logins: Vec<Secret>,
}

impl Task {
    async fn start(store: Store, seed: u64, task: u32, journalist: &'static Journalist) {
        let mut links = BTreeMap::new();
        for (user, number) in (0..USERS).flat_map(|u| (0..PAGES).map(move |p| (u, p))) {
            let link = LinkKey::new(self::user(task, user), page(task, number));
            links.insert(link.clone(), State::of(&store, &link).await.unwrap());
        }
        let rng = StdRng::seed_from_u64(seed ^ u64::from(task));
        let mut this = Task { store, rng, task, journalist, links, sessions: Vec::new(), logins: Vec::new() };
        loop {
            this.one_thing().await;
        }
    }

    async fn one_thing(&mut self) {
        match self.rng.random_range(0..100) {
            0..14 => self.link_pages().await,
            14..40 => self.mark_pages().await,
            40..70 => self.read_a_page().await,
            70..86 => self.settle_one().await,
            86..92 => self.unlink_one().await,
            92..94 => self.open_session().await,
            94..96 => self.make_login().await,
            96..97 => self.use_login().await,
            97..99 => self.use_nonce().await,
            _ => self.ask_for_deletion().await,
        }
    }

    /// The states that are to come, and what is said with them; they count from here on.
    fn begin(&mut self, changed: Vec<(LinkKey, State)>, more: Words) {
        let mut after = more;
        for (link, state) in changed {
            after.insert(link_name(&link), state.words());
            self.links.insert(link, state);
        }
        self.journalist.begin(self.task, after);
    }

    fn done(&self) {
        self.journalist.done(self.task, Words::new());
    }

    fn one_where(&mut self, wanted: impl Fn(&State) -> bool) -> Option<(LinkKey, State)> {
        let found = self.links.iter().filter(|(_, state)| wanted(state)).choose(&mut self.rng);
        found.map(|(link, state)| (link.clone(), state.clone()))
    }

    async fn link_pages(&mut self) {
        let user = user(self.task, self.rng.random_range(0..USERS));
        let count = self.rng.random_range(1..=4);
        let pages = (0..PAGES).choose_multiple(&mut self.rng, count).into_iter().map(|n| page(self.task, n));
        let pages: Vec<PageId> = pages.collect();
        let token = format!("EAAB{}", self.rng.random::<u64>());
        let secret = Secret::new(token.as_str());
        let new = |page: &PageId| NewLink {
            page: page.clone(),
            token: secret.clone(),
            name: Some("A page".into()),
            facebook_user: Some(person(user)),
        };
        let account = NewAccount {
            person: person(user),
            name: None,
            token: secret.clone(),
            granted: vec!["pages_show_list".into()],
            expires_at: None,
        };
        let changed = pages.iter().map(|page| {
            let link = LinkKey::new(user, page.clone());
            let state = self.links[&link].clone();
            let mark = state.mark.or(Some(Cause::Link));
            (link, State { token: Some(token.clone()), mark, ..state })
        });
        let changed = changed.collect();
        self.begin(changed, Words::from([(account_name(user), token.clone())]));
        let (ticket, links) = (self.store.ticket().await.unwrap(), pages.iter().map(new).collect());
        self.store.put_links(ticket, user, Some(account), links, Cause::Link).await.unwrap();
        self.done();
    }

    /// Sometimes twice at the same time, as deliveries come.
    async fn mark_pages(&mut self) {
        let count = self.rng.random_range(1..=5);
        let numbers = (0..PAGES).choose_multiple(&mut self.rng, count);
        let pages: Vec<PageId> = numbers.into_iter().map(|n| page(self.task, n)).collect();
        let linked = self
            .links
            .iter()
            .filter(|(link, state)| link.page().is_some_and(|page| pages.contains(page)) && state.token.is_some());
        let changed: Vec<(LinkKey, State)> = linked
            .map(|(link, state)| (link.clone(), State { mark: state.mark.or(Some(Cause::Webhook)), ..state.clone() }))
            .collect();
        let marked = changed.len();
        self.begin(changed, Words::new());
        if self.rng.random_bool(0.3) {
            let mark = || self.store.mark_pages(&pages, Cause::Webhook);
            let (one, two) = tokio::join!(mark(), mark());
            assert_eq!((one.unwrap().len(), two.unwrap().len()), (marked, marked));
        } else {
            assert_eq!(self.store.mark_pages(&pages, Cause::Webhook).await.unwrap().len(), marked);
        }
        self.done();
    }

    /// Sometimes a webhook comes between the read and its staging; sometimes nothing changed.
    async fn read_a_page(&mut self) {
        let Some((link, mut state)) = self.one_where(|s| s.token.is_some()) else { return };
        let generation = self.store.generation(&link).await.unwrap().unwrap();
        let claim = self.store.claim(&link, generation).await.unwrap().unwrap();
        let overtaken = self.rng.random_bool(0.2);
        if overtaken {
            state.mark = Some(Cause::Manual);
            self.begin(vec![(link.clone(), state.clone())], Words::new());
            self.store.mark_links(vec![link.clone()], Cause::Manual).await.unwrap();
            self.done();
        }
        let coming = match state.owed {
            Some(Owed::Put(number)) => Some(number),
            Some(Owed::Delete) => None,
            None => state.synced,
        };
        let number = coming.filter(|_| self.rng.random_bool(0.2)).unwrap_or_else(|| self.rng.random());
        let outcome = if coming == Some(number) { StageOutcome::Unchanged } else { StageOutcome::Staged };
        let mark = state.mark.filter(|_| overtaken);
        let owed = if outcome == StageOutcome::Staged { Some(Owed::Put(number)) } else { state.owed };
        self.begin(vec![(link, State { mark, owed, ..state })], Words::new());
        assert_eq!(self.store.stage(claim, digest(number), body(number), false).await.unwrap(), outcome);
        self.done();
    }

    async fn settle_one(&mut self) {
        let Some((link, state)) = self.one_where(|s| s.owed.is_some()) else { return };
        let item = self.store.outbox_item(&link).await.unwrap().unwrap();
        let synced = match state.owed {
            Some(Owed::Put(number)) => Some(number),
            _ => None,
        };
        self.begin(vec![(link.clone(), State { owed: None, synced, ..state })], Words::new());
        self.store.complete(&link, &item, synced.map(|n| n.to_string()), Left::default()).await.unwrap();
        self.done();
    }

    async fn unlink_one(&mut self) {
        let Some((link, _)) = self.one_where(|s| s.token.is_some()) else { return };
        let keep = self.rng.random_bool(0.3);
        let owed = (!keep).then_some(Owed::Delete);
        let others =
            |(other, state): (&LinkKey, &State)| *other != link && other.user == link.user && state.token.is_some();
        let last = !self.links.iter().any(others);
        let more = if last { Words::from([(account_name(link.user), NOTHING.into())]) } else { Words::new() };
        self.begin(vec![(link.clone(), State { owed, ..State::default() })], more);
        let how = Unlinking { keep_objects: keep, revoke: false };
        assert_eq!(self.store.unlink(&[link], how).await.unwrap().links.len(), 1);
        self.done();
    }

    async fn open_session(&mut self) {
        self.begin(Vec::new(), Words::new());
        let session = self.store.new_session(user(self.task, 0), DAY).await.unwrap();
        let name = format!("session/{}", session.id.expose());
        self.sessions.push(session);
        self.journalist.done(self.task, Words::from([(name, "open".into())]));
    }

    async fn make_login(&mut self) {
        let Some(session) = self.sessions.choose(&mut self.rng).cloned() else { return };
        self.begin(Vec::new(), Words::new());
        let login = self.store.new_login(&session, DAY).await.unwrap();
        let name = format!("login/{}", login.expose());
        self.logins.push(login);
        self.journalist.done(self.task, Words::from([(name, "fresh".into())]));
    }

    async fn use_login(&mut self) {
        let Some(login) = self.logins.pop() else { return };
        self.begin(Vec::new(), Words::from([(format!("login/{}", login.expose()), NOTHING.into())]));
        assert!(self.store.take_login(login.expose()).await.unwrap().is_some());
        self.done();
    }

    async fn use_nonce(&mut self) {
        let nonce = Uuid::from_u128(self.rng.random());
        self.begin(Vec::new(), Words::from([(format!("nonce/{nonce}"), "used".into())]));
        assert!(self.store.use_state(nonce.into_bytes(), WallTime::now().plus(DAY)).await.unwrap());
        self.done();
    }

    async fn ask_for_deletion(&mut self) {
        let code = Uuid::from_u128(self.rng.random()).simple().to_string();
        let nobody = "424242".parse().unwrap();
        self.begin(Vec::new(), Words::from([(format!("deletion/{code}"), "noted".into())]));
        self.store.forget_person(&nobody, &code, None).await.unwrap();
        self.done();
    }
}
