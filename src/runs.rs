//! The record of the daemon's runs, by which a start knows how the runs before it ended: a file of some lines in the
//! store's folder, which outlives restarts, crashes and boots.
//!
//! Each run enters itself when it begins and notes its end. A run without an end was ended from outside: by a signal,
//! by the kernel for lack of memory, by the watchdog of systemd, or with the whole machine. The watchdog's end is
//! announced: the daemon notes which part hangs when it stops to feed it. A machine that was booted since shows by its
//! monotonic clock, which begins anew; the id of the boot is out of the unit's sight.
//!
//! The record is for operators. A daemon that cannot write it, because its disk is full, says so and goes on. One that
//! is started on the store of a running daemon by mistake leaves the record to that one, which holds a lock beside it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::model::WallTime;
use crate::core::problem::{PastRun, RunEnd};

const FILE: &str = "runs.json";
const DRAFT: &str = "runs.json.new";
const LOCK: &str = "runs.lock";
/// Runs that are kept.
const KEPT: usize = 32;
/// The record is some kilobytes.
const LIMIT: u64 = 1 << 20;
/// By so much a clock that is corrected differs from the monotonic one.
const TOLERANCE: Duration = Duration::from_secs(60);
/// Characters of a reason that are kept.
const REASON: usize = 300;

/// A run that ended by itself or was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Stopped,
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    began: WallTime,
    /// The machine's monotonic clock then, in microseconds.
    clock: Option<u64>,
    pid: u32,
    /// What is expected to end it from outside.
    note: Option<String>,
    end: Option<End>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    runs: Vec<Run>,
}

/// This run, and those before it.
#[derive(Debug)]
pub struct Runs {
    path: PathBuf,
    past: Vec<PastRun>,
    record: Mutex<Record>,
    /// Held until the process ends.
    lock: Mutex<Option<File>>,
}

impl Runs {
    /// Reads the record in the folder of the store, and enters this run. `clock` is the machine's monotonic clock in
    /// microseconds. A folder that is not there yet is left to the store: [`keep`](Runs::keep) writes the record then.
    /// One that belongs to another user is left alone: this process may not use its store.
    pub fn begin(folder: &Path, clock: Option<u64>) -> Runs {
        let path = folder.join(FILE);
        let mut runs = Runs { path, past: Vec::new(), record: Mutex::default(), lock: Mutex::new(None) };
        let began = WallTime::now();
        let mut record = match runs.is_locked() {
            Ok(false) if is_own(Some(folder)) => {
                tracing::warn!(
                    "run: another daemon runs with store.path = {}, its record of runs is left alone; give each its own",
                    folder.display()
                );
                Record::default()
            }
            _ => read(&runs.path),
        };
        runs.past = past(&record.runs, began, clock);
        let surplus = (record.runs.len() + 1).saturating_sub(KEPT);
        record.runs.drain(..surplus);
        record.runs.push(Run { began, clock, pid: std::process::id(), note: None, end: None });
        runs.record = Mutex::new(record);
        runs.keep();
        runs
    }

    /// The runs before this one, the latest last.
    pub fn past(&self) -> Vec<PastRun> {
        self.past.clone()
    }

    /// Writes the record.
    pub fn keep(&self) {
        self.change(|_| {});
    }

    /// Notes what will end this run from outside, or that nothing is expected to any more.
    pub fn note(&self, reason: Option<String>) {
        self.change(|run| run.note = reason.map(|reason| cut(&reason)));
    }

    /// Notes that this run was stopped in order, or the reason for which it ends.
    pub fn ended(&self, reason: Option<&str>) {
        self.change(|run| run.end = Some(reason.map_or(End::Stopped, |reason| End::Failed(cut(reason)))));
    }

    /// Is the record this process's to write? The kernel gives the lock back when a process ends.
    fn is_locked(&self) -> io::Result<bool> {
        if !is_own(self.path.parent()) {
            return Ok(false);
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.path.with_file_name(LOCK))?;
            match file.try_lock() {
                Ok(()) => *lock = Some(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(lock.is_some())
    }

    fn change(&self, change: impl FnOnce(&mut Run)) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = record.runs.last_mut() {
            change(run);
        }
        let written = self.is_locked().and_then(|is_locked| match is_locked {
            true => write(&self.path, &record),
            false => Ok(()),
        });
        if let Err(error) = written {
            tracing::warn!(
                "run: {} cannot be written ({error}), the next start will not know how this run ended",
                self.path.display()
            );
        }
    }
}

fn is_own(folder: Option<&Path>) -> bool {
    let owner = folder.and_then(|folder| std::fs::metadata(folder).ok()).map(|folder| folder.uid());
    owner == Some(rustix::process::geteuid().as_raw())
}

fn cut(reason: &str) -> String {
    reason.chars().take(REASON).collect()
}

/// Was the machine booted between the begin of a run and that of the next? Its monotonic clock is then behind, or has
/// counted less time than passed.
fn was_booted(run: &Run, at: WallTime, clock: Option<u64>) -> bool {
    let (Some(before), Some(after)) = (run.clock, clock) else { return false };
    let Some(counted) = after.checked_sub(before) else { return true };
    at.since(run.began) > Duration::from_micros(counted) + TOLERANCE
}

/// How each run ended, and when the one behind it began.
fn past(runs: &[Run], now: WallTime, clock: Option<u64>) -> Vec<PastRun> {
    let next = runs.iter().skip(1).map(|run| (run.began, run.clock)).chain([(now, clock)]);
    let end = |run: &Run, at: WallTime, next_clock: Option<u64>| match (&run.end, &run.note) {
        (Some(End::Stopped), _) => RunEnd::Stopped,
        (Some(End::Failed(reason)), _) => RunEnd::Failed(reason.clone()),
        (None, Some(note)) => RunEnd::Noted(note.clone()),
        (None, None) if was_booted(run, at, next_clock) => RunEnd::Booted,
        (None, None) => RunEnd::Silent,
    };
    runs.iter().zip(next).map(|(run, (at, clock))| PastRun { over_at: at, end: end(run, at, clock) }).collect()
}

/// A record that is missing or damaged says nothing.
fn read(path: &Path) -> Record {
    let read = || {
        let mut text = String::new();
        File::open(path).ok()?.take(LIMIT).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    };
    read().unwrap_or_default()
}

/// Readers see the whole of it or the one before. It is not synced: after a power cut a damaged record begins anew.
fn write(path: &Path, record: &Record) -> io::Result<()> {
    let draft = path.with_file_name(DRAFT);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(runs: &Runs) -> Vec<RunEnd> {
        runs.past().into_iter().map(|run| run.end).collect()
    }

    #[test]
    fn a_run_knows_how_those_before_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |clock| Runs::begin(dir.path(), Some(clock));
        let first = begin(100);
        assert_eq!(ends(&first), []);
        first.ended(None);
        drop(first);
        begin(200).ended(Some("exit code 70: a bug"));
        let third = begin(300);
        third.note(Some("the store hung".into()));
        drop(third);
        begin(400);
        // The machine was booted, and then the process killed.
        let fifth = begin(50);
        fifth.note(Some("passed".into()));
        fifth.note(None);
        drop(fifth);
        let last = begin(60);
        let wanted = [
            RunEnd::Stopped,
            RunEnd::Failed("exit code 70: a bug".into()),
            RunEnd::Noted("the store hung".into()),
            RunEnd::Booted,
            RunEnd::Silent,
        ];
        assert_eq!(ends(&last), wanted);
        assert!(last.past().iter().map(|run| run.over_at).is_sorted());
    }

    #[test]
    fn a_boot_is_told_from_a_kill_however_long_the_machine_ran_before() {
        let run = |began: u64, clock: u64| {
            let (began, clock) = (WallTime(began * 1000), Some(clock * 1_000_000));
            Run { began, clock, pid: 1, note: None, end: None }
        };
        let week = 7 * 24 * 60 * 60;
        let ends = |next: Run| {
            let past = past(&[run(1000, 14)], next.began, next.clock);
            past[0].end.clone()
        };
        assert_eq!(ends(run(1000 + week, 15)), RunEnd::Booted, "as late after its boot as the one before");
        assert_eq!(ends(run(1200, 9)), RunEnd::Booted);
        assert_eq!(ends(run(1000 + week, 14 + week)), RunEnd::Silent);
        assert_eq!(ends(run(1000 + week + 59, 14 + week)), RunEnd::Silent, "the clock was corrected");
    }

    #[test]
    fn a_daemon_that_is_started_beside_another_leaves_the_record_alone() {
        let dir = tempfile::tempdir().unwrap();
        let begin = || Runs::begin(dir.path(), Some(1));
        let running = begin();
        let beside = begin();
        assert_eq!(ends(&beside), [], "the one that runs has not ended");
        beside.ended(Some("exit code 75: the store is in use"));
        running.note(Some("the store hung".into()));
        drop(running);
        assert_eq!(ends(&begin()), [RunEnd::Noted("the store hung".into())]);
        let nowhere = Runs::begin(&dir.path().join("later"), None);
        std::fs::create_dir(dir.path().join("later")).unwrap();
        nowhere.keep();
        drop(nowhere);
        assert_eq!(ends(&Runs::begin(&dir.path().join("later"), None)), [RunEnd::Silent], "it was entered late");
    }

    #[test]
    fn the_record_is_bounded_and_a_damaged_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 * KEPT {
            Runs::begin(dir.path(), None).ended(Some(&"x".repeat(10_000)));
        }
        assert_eq!(ends(&Runs::begin(dir.path(), None)).len(), KEPT);
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() < 1 << 14);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(ends(&Runs::begin(dir.path(), None)), []);
        assert_eq!(ends(&Runs::begin(dir.path(), None)), [RunEnd::Silent]);
        let nowhere = Runs::begin(&dir.path().join("nowhere"), None);
        assert_eq!(ends(&nowhere), []);
    }
}
