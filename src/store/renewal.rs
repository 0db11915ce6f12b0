//! A renewal: the database and the backup log are written anew, so that no removed record is left in them.
//!
//! The committer makes it between its commits, in steps of some milliseconds, so that a delivery waits little longer
//! than for a commit. A fresh database and a fresh backup log are filled beside those in force, record by record in the
//! order of their keys. Each commit that happens meanwhile goes into the old ones, durably, and then into the fresh
//! ones; so a record behind the one that was copied last is kept up to date, and one before it is overwritten with the
//! same value when its turn comes. When all is copied, the fresh files are made durable and replace the old ones.
//!
//! # After a power cut
//!
//! | cut after | state of the folder | next start |
//! |---|---|---|
//! | any step before the renames | `sled`, and an unfinished `sled.new` and `links.journal.new` | removes the unfinished |
//! | `sled` is renamed to `sled.old` | no `sled` | renames it back: it has every commit |
//! | `sled.new` is renamed to `sled` | the fresh database and the old backup log, which it is ahead of | goes on, removes `sled.old` |
//! | the backup log is renamed | both fresh | goes on, removes `sled.old` |
//!
//! For an erasure the mark log is begun anew meanwhile ([`mark_log`](super::mark_log)). The renewal ends after that.
//!
//! The fresh database carries a number above that of every commit before it, so it is never taken for one that lost its
//! end. The erasure counts as carried out only after `sled.old` is removed.
//!
//! # How often
//!
//! A renewal costs as much as the store is large. The next one waits until thirty times as long has passed as the last
//! one took, at least a second and at most ten minutes, and answers for all requests up to its begin. So renewals take
//! no more than some hundredths of the time, and removed data is gone after ten minutes and the time of two renewals.
//! One that fails changes nothing, and does not begin on a disk without space for both copies; it is tried again after
//! a pause that grows to ten minutes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::backup_log::{BackupLog, Draft};
use super::database::Database;
use super::folder;
use super::handle::{Fault, guarded};
use super::seal::Keyring;
use super::state::erasures;
use super::tree::{Tree, Write};

/// How long one step takes.
const STEP: Duration = Duration::from_millis(8);
/// Rest for each time that a renewal took.
const REST: u32 = 30;
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(600);
/// The first pause after one that failed.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// One that is under way.
pub(super) struct Renewal {
    dir: PathBuf,
    fresh: Database,
    draft: Draft,
    /// The tree that is being copied, and the key that was copied last.
    at: (usize, Option<Vec<u8>>),
    /// The erasure that it answers for; `None` when none is owed.
    pub covers: Option<u64>,
    began: Instant,
}

impl Renewal {
    /// Begins one, for all erasures up to this number.
    pub(super) fn begin(dir: &Path, keyring: &Keyring, covers: Option<u64>) -> Result<Self, Fault> {
        let began = Instant::now();
        folder::remove_folder(&dir.join(folder::REPLACED))?;
        folder::has_room_for_a_copy(dir, &BackupLog::path(dir))?;
        if covers.is_some() && folder::remove_damaged(dir, false)? > 0 {
            tracing::info!(store = %dir.display(), "store: the damaged database that was kept is removed, it may hold what is to be erased");
        }
        let fresh = Database::create_bare(dir)?;
        let draft = Draft::begin(dir, keyring)?;
        Ok(Renewal { dir: dir.to_owned(), fresh, draft, at: (0, None), covers, began })
    }

    /// Copies records for some milliseconds. Returns whether all are copied.
    pub(super) fn step(&mut self, old: &Database, keyring: &Keyring, batch: u64) -> Result<bool, Fault> {
        let until = Instant::now() + STEP;
        guarded(|| {
            while let Some(tree) = Tree::ALL.get(self.at.0).copied() {
                for record in old.records_after(tree, self.at.1.as_deref()) {
                    let (key, value) = record.map_err(Fault::from)?;
                    if !Database::is_number(tree, &key) {
                        self.fresh.put(tree, &key, &value)?;
                        self.draft.copy(keyring, batch, tree, &key, &value)?;
                    }
                    self.at.1 = Some(key.to_vec());
                    if Instant::now() > until {
                        return Ok(false);
                    }
                }
                self.at = (self.at.0 + 1, None);
            }
            Ok::<_, Fault>(true)
        })
    }

    /// Applies a commit that went into the old files.
    pub(super) fn also(&mut self, writes: &[Write], batch: u64, records: &[u8]) -> Result<(), Fault> {
        self.fresh.apply(writes, batch)?;
        Ok(self.draft.add(records)?)
    }

    /// Makes the fresh files durable. `last` is the number of the newest commit; `erases_all` says that no erasure was
    /// asked for since this began.
    pub(super) fn seal(&mut self, keyring: &Keyring, last: u64, erases_all: bool) -> Result<(), Fault> {
        let writes: &[Write] = if erases_all { &[erasures::note_done()] } else { &[] };
        self.fresh.commit(writes, last + 1)?;
        Ok(self.draft.seal(keyring, last + 1)?)
    }

    /// Replaces the old files by the sealed ones. After an error the store must be opened anew.
    pub(super) fn replace(self, backup_log: &mut BackupLog) -> Result<Database, Fault> {
        let Renewal { dir, fresh, draft, .. } = self;
        std::fs::rename(dir.join(folder::DATABASE), dir.join(folder::REPLACED))?;
        fresh.rename_into(&dir)?;
        backup_log.replace(draft)?;
        Ok(fresh)
    }

    /// How long it is under way.
    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }
}

/// When the next one may begin.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    not_before: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// One succeeded, and took so long.
    pub(super) fn succeeded(&mut self, took: Duration) {
        self.failures = 0;
        self.rest((took * REST).clamp(SHORTEST_REST, LONGEST_REST));
    }

    /// One failed. Returns how long it is until the next one.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = (TRY_AGAIN * 2u32.saturating_pow(self.failures.min(16))).min(LONGEST_REST);
        self.failures += 1;
        self.rest(pause);
        pause
    }

    fn rest(&mut self, pause: Duration) {
        self.not_before = Some(Instant::now() + pause);
    }

    /// How long it is until one may begin.
    pub(super) fn wait(&self) -> Duration {
        self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }
}
