//! The disk fails under the daemon: calls on the store's files end with EIO or ENOSPC, by a script or at random, and
//! then the disk works again. The calls are wrapped by a preloaded library (`shim.c`), compiled here by the C compiler
//! that Rust's linker needs anyway.
//!
//! After each pattern the daemon takes deliveries again, by itself or after it ended with a code on which systemd
//! starts it. No acknowledged delivery is lost, every link is there, events reach their receiver, and nothing was taken
//! for damage, since nothing was damaged.
//!
//! `PAGESYNCD_DISK_ROUNDS` says how many patterns are tried (a few without it), `PAGESYNCD_DISK_SEED` repeats a run's
//! choices.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::Method;
use pagesyncd::exit;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tempfile::TempDir;

use crate::fixture::{Fixture, within};
use crate::senders::{Book, Senders, client};
use crate::things::Thing;
use crate::wish;

const PATIENCE: Duration = Duration::from_secs(120);
/// How often a script is set until its calls have failed.
const TRIES: u32 = 15;
/// How long one of them takes.
const TRY: Duration = Duration::from_secs(20);
/// Reads of the database's file in one opening, at least: the folder's own come first, then those of sled in its log.
const READS: usize = 16;
const PAGE: u64 = 4096;
const PAGES: u64 = 65536;
const CONTROL_BYTES: u64 = PAGE + PAGES;
const COUNT_AT: u64 = 2048;
const LOST_AT: u64 = 2112;

/// The preloaded library and its control file.
struct Shim {
    control: std::fs::File,
    path: PathBuf,
    generation: u32,
    _dir: TempDir,
}

impl Shim {
    fn library() -> PathBuf {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let build = || {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/shim.c");
            let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
            let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
            let compiled = Command::new(&compiler)
                .args(["-shared", "-fPIC", "-O1", "-o"])
                .arg(&library)
                .args([source, "-ldl", "-lpthread"])
                .output()
                .unwrap_or_else(|error| panic!("{compiler}: {error}"));
            assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
            library
        };
        BUILT.get_or_init(build).clone()
    }

    fn new() -> Shim {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let control = std::fs::File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        control.set_len(CONTROL_BYTES).unwrap();
        let mut shim = Shim { control, path, generation: 0, _dir: dir };
        shim.works();
        shim
    }

    fn env(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![("LD_PRELOAD".into(), text(&Shim::library())), ("DISK_FAULTS".into(), text(&self.path))]
    }

    /// Puts rules in force; the generation is written last.
    fn set(&mut self, rules: &str) {
        self.generation += 1;
        let mut text = format!("\nfolder /disk/store/\n{rules}\n").into_bytes();
        text.resize(COUNT_AT as usize - 8, 0);
        self.control.write_all_at(&text, 8).unwrap();
        self.control.write_all_at(&[0; 24], COUNT_AT).unwrap();
        self.control.write_all_at(format!("{:08}", self.generation).as_bytes(), 0).unwrap();
    }

    /// No call fails any more.
    fn works(&mut self) {
        self.set("");
    }

    /// How many calls failed by the rules in force.
    fn faults(&self) -> u64 {
        self.number(COUNT_AT)
    }

    /// How many pages a failed fsync has lost so far; some may have been written again since.
    fn lost(&self) -> u64 {
        self.number(LOST_AT)
    }

    fn number(&self, at: u64) -> u64 {
        let mut bytes = [0; 24];
        self.control.read_exact_at(&mut bytes, at).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        text.split(['\n', '\0']).next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// The power goes: the file has nothing where pages were lost. Returns how many these are.
    fn cut_power(&self, file: &Path) -> usize {
        let mut lost = vec![0; PAGES as usize];
        self.control.read_exact_at(&mut lost, PAGE).unwrap();
        let file = std::fs::File::options().write(true).open(file).unwrap();
        let lost: Vec<u64> = (0..PAGES).filter(|page| lost[*page as usize] == 1).collect();
        lost.iter().for_each(|page| file.write_all_at(&[0; PAGE as usize], page * PAGE).unwrap());
        self.control.write_all_at(&vec![0; PAGES as usize], PAGE).unwrap();
        lost.len()
    }
}

/// A daemon on a disk that fails.
struct Site {
    fixture: Fixture,
    book: Arc<Book>,
    shim: Shim,
    http: reqwest::Client,
    /// How the daemon ended by itself, in words.
    ends: Vec<String>,
}

impl Site {
    /// One user has all pages linked, another one the first `shared`.
    async fn new(pages: usize, shared: usize) -> Site {
        let shim = Shim::new();
        let fixture = Fixture::lay(pages, shared, 7, shim.env()).await;
        let book = Book::of(&fixture);
        Site { fixture, book, shim, http: client(), ends: Vec::new() }
    }

    /// Edits a page and delivers its webhook; was it acknowledged?
    async fn deliver(&self) -> bool {
        let pages = [Thing::Page(self.fixture.pages[0].clone())];
        let numbers = self.book.edit(&pages);
        self.book.tell(&self.http, &pages, &numbers).await
    }

    /// The other user's links are dropped and imported again, so that there is something to erase from the store's
    /// files. Returns whether all of it was taken.
    async fn come_and_go(&self) -> bool {
        let mut taken = true;
        for link in self.fixture.links.iter().skip(self.fixture.pages.len()) {
            let Thing::Page(page) = &link.thing else { continue };
            let token = self.fixture.token(link);
            let path = format!("/v1/pages/{page}?user={}", link.user);
            let row = json!({"user": link.user, "page_id": page, "access_token": token}).to_string();
            let dropped = self.fixture.admin(Method::DELETE, &path, "").await;
            let imported = self.fixture.admin(Method::POST, "/v1/import", &row).await;
            taken &= dropped.is_some_and(|(status, _)| matches!(status, 200 | 404));
            taken &= imported.is_some_and(|(status, _)| status == 200);
        }
        taken
    }

    /// Plays systemd: a daemon that ended by itself is started again, unless its code says that a person must
    /// act first.
    async fn supervise(&mut self) {
        let how = self.fixture.daemon.how_it_ended();
        if self.fixture.daemon.pid().is_none() {
            let again = [exit::INTERNAL, exit::IO, exit::TRY_AGAIN].map(|code| format!("exit status: {code}"));
            assert!(again.contains(&how), "the daemon ended with {how}: {}", self.fixture.account().await);
            self.ends.push(how);
            // A start on a disk that fails may fail; it is tried again.
            let _ = self.fixture.daemon.start().await;
        }
    }

    /// Lets time pass, with a service manager that watches.
    async fn pass(&mut self, span: Duration) {
        let until = std::time::Instant::now() + span;
        while std::time::Instant::now() < until {
            self.supervise().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The disk works: everything that was promised is kept.
    async fn judge(&mut self, scene: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.deliver().await {
            if std::time::Instant::now() > deadline {
                panic!("{scene}: the disk works and deliveries are refused\n{}", self.fixture.account().await);
            }
            self.supervise().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let linked = within(PATIENCE, async || self.come_and_go().await).await;
        assert!(linked.is_some(), "{scene}: links cannot be made\n{}", self.fixture.account().await);
        let missing = || -> Vec<String> {
            let behind = |link: &&crate::fixture::Link| {
                self.fixture.shown(link).is_none_or(|shown| shown < self.book.promise(&link.thing).acknowledged)
            };
            self.fixture.links.iter().filter(behind).map(|link| format!("{link:?}")).collect()
        };
        if within(PATIENCE, async || missing().is_empty()).await.is_none() {
            panic!("{scene}: acknowledged and not in the bucket: {:?}\n{}", missing(), self.fixture.account().await);
        }
        if within(PATIENCE, async || self.fixture.at_rest().await).await.is_none() {
            panic!("{scene}: the daemon does not come to rest\n{}", self.fixture.account().await);
        }
        let again = within(PATIENCE, async || {
            self.book.tell_again(&self.http).await;
            self.book.unacknowledged().is_empty() && self.fixture.untrue().is_empty()
        });
        assert!(again.await.is_some(), "{scene}: not everything is true again\n{}", self.fixture.account().await);
        let erased = within(PATIENCE, async || {
            let idle = |status: serde_json::Value| {
                status["store"]["erasing_since"].is_null() && status["notify"]["waiting"] == 0
            };
            self.fixture.status().await.is_some_and(idle)
        });
        assert!(erased.await.is_some(), "{scene}: events wait, or nothing is erased\n{}", self.fixture.account().await);
        let aside = self.fixture.store_files().into_iter().filter(|name| name.contains("damaged")).collect::<Vec<_>>();
        assert!(aside.is_empty(), "{scene}: {aside:?}\n{}", self.fixture.account().await);
        let heard = self.fixture.listen();
        let mut wrong: Vec<String> = std::mem::take(&mut *self.book.answers.wrong.lock().unwrap());
        let taken_for_damage = |line: &String| line.contains("damaged") || line.contains("restored");
        wrong.extend(heard.errors.into_iter().filter(taken_for_damage));
        assert!(wrong.is_empty(), "{scene}: {}", wrong.join("\n"));
    }

    async fn end(self) {
        assert_eq!(self.fixture.daemon.stop().await, Some(0), "the daemon did not end well");
        self.fixture.server.shutdown().await;
    }
}

/// The process lives through each of these sets of scripts, and so does its store. `reached` is how many of the calls
/// must fail at least.
async fn survives(sets: impl IntoIterator<Item = Vec<String>>, reached: u64) {
    let mut site = Site::new(3, 1).await;
    let pid = site.fixture.daemon.pid();
    for scripts in sets {
        let rules: Vec<String> = scripts.iter().map(|script| format!("script {script}")).collect();
        let scene = rules.join(", ");
        // sled syncs its file twice a second as well, and passes over an error then: the script is tried again.
        for tries_left in (0..TRIES).rev() {
            site.shim.set(&rules.join("\n"));
            let failed = within(TRY, async || {
                site.deliver().await;
                site.shim.faults() >= reached
            });
            if failed.await.is_some() {
                break;
            }
            assert!(tries_left > 0, "{scene}: only {} calls failed", site.shim.faults());
        }
        site.judge(&scene).await;
        assert_eq!(site.fixture.daemon.pid(), pid, "{scene}: the process ended");
    }
    site.end().await;
}

/// The later ones meet the store while it is closed, opened, read or proven to be writable again.
#[tokio::test(flavor = "multi_thread")]
async fn an_fsync_that_fails_again_while_the_store_is_opened_ends_nothing() {
    survives((0..8).map(|between| vec![format!("fsync sled/db oe{}ee", "o".repeat(between))]), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_passes_while_the_store_is_opened_is_no_damage() {
    let fsyncs = (0..6).map(|between| vec![format!("fsync sled/db oe{}eeee", "o".repeat(between))]);
    // The fsync takes the store down; each of the others meets it while it is opened again.
    let while_opening = [
        "write sled/db eee",
        "write sled/db ooee",
        "open sled/db ee",
        "open sled/conf ee",
        "read sled/db ee",
        "open links.journal.new e",
        "write links.journal.new e",
        "fsync links.journal.new ee",
        "rename links.journal ee",
        "open sled.before.new/db e",
        "write sled.before.new/db e",
        "fsync sled.before.new/db e",
        "rename store/sled.before e",
        "read marks.log ee",
        "open marks.log.new ee",
        "write marks.log.new ee",
        "fsync marks.log.new ee",
        "rename marks.log ee",
    ];
    let others = while_opening.iter().map(|script| vec!["fsync sled/db e".to_owned(), (*script).to_owned()]);
    survives(fsyncs.chain(others), 2).await;
}

/// sled passes over a read error while it opens its log, and overwrites what it has not read. Which of the reads it
/// passes over is its own affair, so each of them fails once, and twice in openings that follow each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_while_sled_opens_its_log_costs_nothing() {
    let once = (0..READS).map(|before| format!("read sled/db {}e", "o".repeat(before)));
    let twice = (0..READS).step_by(3).map(|before| format!("read sled/db {0}e{0}e", "o".repeat(before)));
    survives(once.chain(twice).map(|reads| vec!["fsync sled/db e".to_owned(), reads]), 2).await;
}

/// The copy of the database is put back after such an error, which may fail as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_that_cannot_be_put_back_is_put_back_later() {
    let renames = ["rename sled.old e", "rename store/sled oe", "rename store/sled ee"];
    let scripts = |before: usize, rename: &str| {
        let reads = format!("read sled/db {}e", "o".repeat(before));
        vec!["fsync sled/db e".to_owned(), reads, rename.to_owned()]
    };
    survives((8..READS).step_by(2).flat_map(|before| renames.map(|rename| scripts(before, rename))), 2).await;
}

/// Marks go to a file of their own. Its failures take the store down like those of the database, and the fresh log that
/// follows replaces one of which nobody knows what is on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_log_that_cannot_be_written_is_begun_anew() {
    let own = ["fsync marks.log e", "fsync marks.log on", "write marks.log e", "write marks.log on"];
    let while_opening = ["read marks.log ee", "fsync marks.log.new ee", "fsync sled/db oee"];
    let both = while_opening.iter().map(|script| vec!["fsync marks.log e".to_owned(), (*script).to_owned()]);
    let own = own.iter().map(|script| vec![(*script).to_owned()]);
    survives(own, 1).await;
    survives(both, 2).await;
}

/// Linux marks pages clean that could not be written, so that a later fsync does not cover them. Acknowledgements after
/// that must not depend on them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_fsync_has_dropped_is_not_built_upon() {
    let mut site = Site::new(3, 0).await;
    let database = site.fixture.store().join("sled/db");
    for round in 0..4 {
        let before = site.shim.lost();
        site.shim.set("lose sled/db 6");
        let mut edits = 0;
        let failed = within(PATIENCE, async || {
            // Long enough that a commit takes pages of its own.
            edits += 1;
            let about = format!("{edits} {}", "x".repeat(40_000));
            site.fixture.world().edit_page(&site.fixture.pages[0], "about", about.into()).unwrap();
            site.deliver().await;
            site.shim.lost() > before
        });
        assert!(failed.await.is_some(), "no fsync failed");
        let mut acknowledged = 0;
        let back = within(PATIENCE, async || {
            acknowledged += u64::from(site.deliver().await);
            acknowledged == 5
        });
        assert!(back.await.is_some(), "the store does not come back");
        site.fixture.daemon.kill_now().await;
        let gone = site.shim.cut_power(&database);
        site.shim.works();
        site.fixture.daemon.start().await.unwrap();
        let mended = site.fixture.status().await.unwrap()["store"]["mended"].clone();
        assert!(mended.is_null(), "round {round}, {gone} pages gone: {mended}\n{}", site.fixture.account().await);
        site.judge(&format!("round {round}, {gone} pages gone")).await;
    }
    site.end().await;
}

/// A disk without room for a second copy of the store delays the erasure and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_room_and_takes_none_from_the_commits() {
    let mut site = Site::new(3, 1).await;
    let disk = match &site.fixture.disk {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: the store has no disk of its own ({reason})"),
    };
    disk.fill_but(12);
    assert!(site.come_and_go().await);
    let waits = within(PATIENCE, async || {
        assert!(site.deliver().await, "the disk has room for a delivery");
        site.fixture.log().contains("cannot be erased yet")
    });
    assert!(waits.await.is_some(), "nothing says that the erasure waits\n{}", site.fixture.account().await);
    assert!(site.fixture.status().await.unwrap()["store"]["erasing_since"].is_string());
    assert!(!site.fixture.store_files().iter().any(|name| name.contains("new")), "{:?}", site.fixture.store_files());
    disk.relieve();
    site.judge("space again").await;
    assert!(!site.fixture.log().contains("]: cannot write ("));
    site.end().await;
}

/// systemd's end of the notification socket: everything that was sent, in order.
struct Notified(Arc<Mutex<Vec<String>>>);

impl Notified {
    fn listen(path: &Path) -> Notified {
        let socket = tokio::net::UnixDatagram::bind(path).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let messages = heard.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 2048];
            while let Ok(length) = socket.recv(&mut bytes).await {
                messages.lock().unwrap().push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            }
        });
        Notified(heard)
    }

    fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|message| message.contains(text)).count()
    }

    /// Waits for so many more messages that hold this text.
    async fn more(&self, text: &str, count: usize) {
        let wanted = self.count(text) + count;
        let heard = within(PATIENCE, async || self.count(text) >= wanted).await;
        let heard = heard.map_or_else(|| self.0.lock().unwrap().join(" "), |_| String::new());
        assert!(heard.is_empty(), "systemd waits for {text} in vain: {heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_while_the_disk_refuses_and_not_while_the_store_hangs() {
    let mut site = Site::new(2, 0).await;
    assert_eq!(site.fixture.daemon.stop().await, Some(0));
    let dir = tempfile::tempdir().unwrap();
    let systemd = Notified::listen(&dir.path().join("notify"));
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut daemon = tokio::process::Command::new(crate::fixture::PROGRAM)
        .args(["run", "--config"])
        .arg(site.fixture.config())
        .envs(site.shim.env())
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .env("WATCHDOG_USEC", "1000000")
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let unanswered = || {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        log.matches("watchdog: the store has made no progress for").count()
    };
    systemd.more("WATCHDOG=1", 1).await;
    // A disk that refuses every write, and is tried again all the while, is no reason to be killed.
    site.shim.set("chance 1 1000 wf en -1 -");
    assert!(within(PATIENCE, async || !site.deliver().await).await.is_some(), "a delivery was acknowledged");
    systemd.more("WATCHDOG=1", 4).await;
    assert_eq!(unanswered(), 0);
    site.shim.works();
    assert!(within(PATIENCE, async || site.deliver().await).await.is_some(), "the store does not come back");
    // An fsync that does not return is.
    site.shim.set("script fsync sled/db hhhh");
    let (http, book) = (site.http.clone(), site.book.clone());
    let page = Thing::Page(site.fixture.pages[0].clone());
    let delivering = tokio::spawn(async move {
        let numbers = book.edit(std::slice::from_ref(&page));
        book.tell(&http, &[page], &numbers).await
    });
    assert!(within(PATIENCE, async || unanswered() > 0).await.is_some(), "nobody noticed that the store hangs");
    let fed = systemd.count("WATCHDOG=1");
    systemd.more("STATUS=the store has made no progress for", 2).await;
    assert_eq!(systemd.count("WATCHDOG=1"), fed, "the watchdog is fed while the store hangs");
    site.shim.works();
    systemd.more("WATCHDOG=1", 1).await;
    assert!(within(PATIENCE, async || site.deliver().await).await.is_some(), "the store does not come back");
    delivering.await.unwrap();
    let pid = rustix::process::Pid::from_raw(daemon.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.wait().await.unwrap().success());
    site.fixture.server.shutdown().await;
}

/// Calls and paths that fail, how often, with which errors, and how many times.
fn pattern(dice: &mut StdRng) -> String {
    let calls = ["wfro", "f", "f", "f", "w", "wf", "fr", "o", "r", "d", "wfrotd"].choose(dice).unwrap();
    let paths = [
        "-",
        "-",
        "sled/db",
        "sled/db",
        "marks.log",
        "marks.log",
        "sled.new/db",
        "links.journal.new",
        "links.journal",
        "marks.log.new",
        "tide",
    ];
    let paths = paths.choose(dice).unwrap();
    let errors = ["e", "n", "en"].choose(dice).unwrap();
    let per_mille = [50, 200, 500, 1000].choose(dice).unwrap();
    let budget = if dice.random_bool(0.7) { dice.random_range(1..=6) } else { -1 };
    format!("chance {} {per_mille} {calls} {errors} {budget} {paths}", dice.random::<u32>())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_failure_of_the_disk_is_made_good_when_it_works_again() {
    let seed = wish("PAGESYNCD_DISK_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 48));
    let rounds = wish("PAGESYNCD_DISK_ROUNDS").unwrap_or(8);
    println!("failing disk: PAGESYNCD_DISK_SEED={seed}, {rounds} rounds");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut site = Site::new(6, 2).await;
    let mut faults = 0;
    for round in 0..rounds {
        let patterns: Vec<String> = (0..dice.random_range(1..=6)).map(|_| pattern(&mut dice)).collect();
        let scene = format!("seed {seed}, round {round}, {patterns:?}");
        let senders = Senders::begin(&site.book, 3, Duration::from_millis(30), dice.random());
        for pattern in &patterns {
            site.pass(Duration::from_millis(dice.random_range(0..150))).await;
            site.shim.set(pattern);
            site.come_and_go().await;
            site.pass(Duration::from_millis(dice.random_range(50..1000))).await;
            faults += site.shim.faults();
        }
        site.shim.works();
        site.pass(Duration::from_millis(dice.random_range(0..200))).await;
        senders.end().await;
        site.judge(&scene).await;
    }
    println!("failing disk: {faults} calls failed, the process ended {:?}", site.ends);
    site.end().await;
}
