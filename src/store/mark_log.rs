//! The mark log: a small append-only file in front of the database, for marks alone.
//!
//! A delivery is answered when its marks are durable, so nothing else is written as often. In the database a mark costs
//! a transaction over all trees, a copy of the leaf that it lies in, and the hand-off to sled's own threads. In here a
//! batch of marks costs one write and one `fdatasync`.
//!
//! # Which decision goes where
//!
//! A decision that makes marks and writes nothing else goes to the mark log, through the
//! [mark writer](super::mark_writer) with a queue and a thread of its own. So stages and settles, which go to the
//! database, do not queue in front of marks that a delivery waits for. Every other decision is one transaction of the
//! database, with the marks that it makes.
//!
//! # Why no order between the two files is needed
//!
//! Each file holds a prefix of its own queue after a power cut, and the two prefixes need not fit together. Numbers
//! decide. They are taken under the store's lock, so they have the order of the decisions, and a mark in the mark log
//! stands after a start when all of this holds ([`Mark::stands_beside`](crate::core::ledger::Mark::stands_beside)):
//!
//! * its link is in the database;
//! * its number is higher than [`Synced::answered`](crate::core::ledger::Synced::answered), the newest mark that a
//!   staged read of the part has answered for, which lies in the transaction of the stage;
//! * its number is higher than that of the mark in the database, if there is one.
//!
//! | cut between | what a start finds | why it is right |
//! |---|---|---|
//! | a mark is in the log, its read is not staged | the mark | it is owed |
//! | a stage is durable, the mark that it answers for is in the log | nothing | `answered` is that mark's number or a higher one |
//! | a stage is durable, the mark that it answers for comes into the log later | nothing | the same |
//! | a stage is durable, a mark made during its read is in the log | the mark | its number is higher than the claimed one's |
//! | an unlink is durable, marks of the link are in the log or come later | nothing | the link is gone |
//! | the page is linked again | the mark of the new link | it lies in the transaction that makes the link, with a higher number than all before; its read sets `answered` to it |
//! | a mark is in the log, the link that it was made for is not durable | nothing, or the mark on the link before it | nobody got an answer that the link is there |
//!
//! No mark is lost: a number that is not above `answered` belongs to a mark that was made before the read began. No mark
//! comes back, but for one that costs a read: a mark of the database that a read has answered for stays there while a newer
//! one is on its way to the log, and stands after a power cut that takes the newer one. All else that clears or replaces a
//! mark leaves a higher number, or no link. All of that holds only because no number is given out twice: a start goes on
//! above every number that lies in either file, `answered` and marks that do not stand among them.
//!
//! A caller waits for both queues when the mark that it relies on is still on its way
//! ([`Txn::wait_for_marks`](super::txn::Txn::wait_for_marks)). A decision that writes to the database and relies on such a mark writes the mark, too: a link without its first mark,
//! or a damaged outbox entry that is gone before the mark that replaces it, would be lost work after a power cut. The same
//! mark in both files is one mark.
//!
//! # How it is cut off
//!
//! When the log has grown ([`GROWN`]), and for an erasure, a new file replaces it, and the committer writes the
//! marks that stand into the database, some hundred at a time, through its queue ([`cut`](super::cut)). A mark
//! whose read was staged meanwhile is never written there. When all of it is durable, the old file is removed. At each
//! start and after each failure the marks that stand are copied into a fresh file, because the pages of one whose fsync
//! failed may be in the page cache alone ([`folder`]).
//!
//! | cut after | state of the folder | next start |
//! |---|---|---|
//! | the fresh file is written | `marks.log`, and `marks.log.new` | removes the fresh one |
//! | `marks.log` is renamed to `marks.log.old` | no `marks.log` | reads the old one |
//! | the fresh file is renamed | `marks.log.old` and `marks.log` | reads both |
//! | some marks are in the database | both | reads both: a mark in both is one mark |
//! | the old file is removed | `marks.log` | reads it |
//!
//! # Form
//!
//! A row of frames: a magic word, the length and the CRC-32 of the rest, the number of the frame, a kind, and records of
//! one batch (length of the key, key, number, time, cause). Zeros follow, reserved ahead in steps: overwriting them
//! changes no metadata, so that `fdatasync` need not wait for the file system's own log. The numbers of the frames rise
//! by one.
//!
//! A batch is one frame, and the next one begins when this one is durable. So what is no sound frame at the end may be a
//! torn batch, for which nobody was answered. In front of a sound frame it is damage: the file is moved aside, its sound
//! frames count, and every link is due, since nobody knows which marks are gone. After a power cut, damage in the very
//! last frame cannot be distinguished from a torn one. A file ends with a frame that says so when the store is closed in order and
//! when another file takes its place: in the earlier file, such a last frame that is missing is damage. The database knows
//! that a mark log was begun, so that a file that is gone is damage as well.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::folder;
use crate::core::ledger::Mark;
use crate::core::model::{Cause, PartKey, WallTime};

/// The file in force.
pub(super) const FILE: &str = "marks.log";
/// The file before it, while its marks are brought into the database.
const EARLIER: &str = "marks.log.old";
/// A file that is being written; of no use before it is renamed.
const UNFINISHED: &str = "marks.log.new";
const MAGIC: [u8; 4] = *b"PSM1";
/// Magic word, length, checksum.
const HEAD: usize = 12;
const MARKS: u8 = 1;
const CLOSED: u8 = 2;
/// Zeros are reserved in steps of so many bytes.
const STEP: u64 = 256 << 10;
/// The marks of a file of this size are brought into the database.
pub(super) const GROWN: u64 = 4 << 20;

/// A part and its mark.
pub(super) type LoggedMark = (PartKey, Mark);

/// What the files of a mark log say.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The newest mark of each part.
    pub marks: HashMap<PartKey, Mark>,
    /// The number of the newest frame.
    number: u64,
    /// A description of the damage.
    pub damage: Option<String>,
    /// There is a file.
    pub exists: bool,
}

/// A mark log, open for appending.
pub(super) struct MarkLog {
    file: File,
    /// The number of the newest frame.
    number: u64,
    /// Where the next frame goes.
    end: u64,
    /// Up to here the file is filled with zeros.
    reserved: u64,
    /// Marks in it.
    marks: u64,
    /// How often the store had been opened again when this one was put in force.
    pub epoch: u64,
    /// Marks up to this number were decided before an erasure that relies on this file. Those of links that are gone must
    /// not come into it.
    pub erased_up_to: u64,
    /// Kept for its memory.
    frame: Vec<u8>,
}

impl MarkLog {
    /// Reads the files in `dir`; nothing where there are none.
    pub(super) fn read(dir: &Path) -> io::Result<Replay> {
        let mut replay = Replay::default();
        for name in [EARLIER, FILE] {
            match std::fs::read(dir.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => {
                    replay.exists = true;
                    let last = take(&mut replay, &read?);
                    if last.is_none_or(|kind| name == EARLIER && kind != CLOSED) {
                        replay.damage = Some(format!("{name} does not hold what was written"));
                    }
                }
            }
        }
        Ok(replay)
    }

    /// Replaces the files that are there by a log with these marks; durable and atomic. It goes on behind the
    /// number of `replay`.
    pub(super) fn create(dir: &Path, replay: &Replay, marks: &[LoggedMark]) -> io::Result<MarkLog> {
        let log = Self::begin(dir, replay.number, marks)?;
        std::fs::rename(dir.join(UNFINISHED), dir.join(FILE))?;
        folder::sync(dir)?;
        Self::remove_earlier(dir)?;
        Ok(log)
    }

    /// A fresh file aside, with a first frame that is durable.
    fn begin(dir: &Path, number: u64, marks: &[LoggedMark]) -> io::Result<MarkLog> {
        let mut options = File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        let file = options.open(dir.join(UNFINISHED))?;
        let mut log =
            MarkLog { file, number, end: 0, reserved: 0, marks: 0, epoch: 0, erased_up_to: 0, frame: Vec::new() };
        log.append(marks)?;
        log.file.sync_all()?;
        Ok(log)
    }

    /// Takes only marks that were decided since the store was opened again for this time.
    pub(super) fn of_epoch(self, epoch: u64) -> MarkLog {
        MarkLog { epoch, ..self }
    }

    /// Begins a new file. The one in force becomes the earlier one. After an error the store must be opened anew.
    pub(super) fn turn_over(&mut self, dir: &Path) -> io::Result<()> {
        self.write(CLOSED, [])?;
        let mut fresh = Self::begin(dir, self.number, &[])?;
        std::fs::rename(dir.join(FILE), dir.join(EARLIER))?;
        std::fs::rename(dir.join(UNFINISHED), dir.join(FILE))?;
        folder::sync(dir)?;
        (fresh.epoch, fresh.erased_up_to) = (self.epoch, self.erased_up_to);
        *self = fresh;
        Ok(())
    }

    /// The marks of the earlier file are in the database, or are answered for.
    pub(super) fn remove_earlier(dir: &Path) -> io::Result<()> {
        folder::remove_file(&dir.join(EARLIER))
    }

    /// Removes a file that was left unfinished.
    pub(super) fn remove_unfinished(dir: &Path) -> io::Result<()> {
        folder::remove_file(&dir.join(UNFINISHED))
    }

    /// Removes all of its files.
    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        [FILE, EARLIER, UNFINISHED].iter().try_for_each(|name| folder::remove_file(&dir.join(name)))
    }

    /// The files of a damaged log go out of the way, under names that say when. Returns the last of the new names; `None`
    /// where no file was left.
    pub(super) fn move_aside(dir: &Path, now: u64) -> io::Result<Option<PathBuf>> {
        let mut kept = None;
        for name in [EARLIER, FILE].into_iter().filter(|name| dir.join(name).exists()) {
            let path = dir.join(format!("{name}{}{now}", folder::DAMAGED));
            std::fs::rename(dir.join(name), &path)?;
            kept = Some(path);
        }
        folder::sync(dir)?;
        Ok(kept)
    }

    /// Appends marks, durably. After an error the store must be opened anew.
    pub(super) fn append<'a>(&mut self, marks: impl IntoIterator<Item = &'a LoggedMark>) -> io::Result<()> {
        self.write(MARKS, marks)
    }

    /// Says at the end that the store was closed in order.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.write(CLOSED, [])
    }

    fn write<'a>(&mut self, kind: u8, marks: impl IntoIterator<Item = &'a LoggedMark>) -> io::Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        self.number += 1;
        self.marks += fill(&mut frame, self.number, kind, marks);
        let end = self.end + frame.len() as u64;
        if end > self.reserved {
            self.reserve(end + STEP)?;
        }
        self.file.write_all_at(&frame, self.end)?;
        self.file.sync_data()?;
        (self.end, self.frame) = (end, frame);
        Ok(())
    }

    /// Fills the file with zeros up to a position. A disk that has no space for them may have some for a frame.
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        let zeros = vec![0; (end - self.reserved) as usize];
        match self.file.write_all_at(&zeros, self.reserved) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.reserved = end;
                Ok(())
            }
        }
    }

    /// From here on its file takes no writes.
    #[cfg(test)]
    pub(super) fn break_off(&mut self) {
        self.file = File::open("/dev/null").expect("there is one");
    }

    /// Bytes of its frames.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Bytes that it takes on disk.
    pub(super) fn size_on_disk(&self) -> u64 {
        self.reserved.max(self.end)
    }

    /// Does it hold no mark?
    pub(super) fn is_blank(&self) -> bool {
        self.marks == 0
    }
}

/// Puts a frame into the buffer. Returns how many marks are in it.
fn fill<'a>(frame: &mut Vec<u8>, number: u64, kind: u8, marks: impl IntoIterator<Item = &'a LoggedMark>) -> u64 {
    frame.clear();
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[0; HEAD - MAGIC.len()]);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.push(kind);
    let mut count = 0;
    for (part, mark) in marks {
        let key = part.to_bytes();
        // A key is a user, an id of some digits and a part of at most 128 bytes.
        frame.extend_from_slice(&(key.len() as u16).to_be_bytes());
        frame.extend_from_slice(&key);
        frame.extend_from_slice(&mark.seq.to_be_bytes());
        frame.extend_from_slice(&mark.since.0.to_be_bytes());
        frame.push(cause_byte(mark.cause));
        count += 1;
    }
    let rest = &frame[HEAD..];
    let (length, checksum) = ((rest.len() as u32).to_be_bytes(), crc32fast::hash(rest).to_be_bytes());
    frame[4..8].copy_from_slice(&length);
    frame[8..12].copy_from_slice(&checksum);
    count
}

/// A byte never changes its meaning. None is zero, so that a frame that ends in the reserved zeros is not sound.
fn cause_byte(cause: Cause) -> u8 {
    match cause {
        Cause::Webhook => 1,
        Cause::Poll => 2,
        Cause::Link => 3,
        Cause::Manual => 4,
    }
}

fn cause_of(byte: u8) -> Option<Cause> {
    [Cause::Webhook, Cause::Poll, Cause::Link, Cause::Manual].into_iter().find(|cause| cause_byte(*cause) == byte)
}

/// A sound frame at the beginning of some bytes.
struct Frame<'a> {
    number: u64,
    kind: u8,
    records: &'a [u8],
    length: usize,
}

impl Frame<'_> {
    fn at(bytes: &[u8]) -> Option<Frame<'_>> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let rest = rest.get(..length)?;
        let (number, records) = rest.split_first_chunk::<8>()?;
        let (kind, records) = records.split_first()?;
        let sound = *magic == MAGIC && u32::from_be_bytes(*checksum) == crc32fast::hash(rest);
        sound.then_some(Frame { number: u64::from_be_bytes(*number), kind: *kind, records, length: HEAD + length })
    }
}

/// Takes the frames of a file. Returns the kind of the last one; `None` when one is damaged or missing.
fn take(replay: &mut Replay, bytes: &[u8]) -> Option<u8> {
    let (mut at, mut is_sound, mut last, mut kind) = (0, true, None, None);
    while at < bytes.len() {
        let next = |number: u64| last.is_none_or(|last: u64| number > last);
        match Frame::at(&bytes[at..]).filter(|frame| next(frame.number)) {
            Some(frame) => {
                is_sound &= last.is_none_or(|last| frame.number == last + 1);
                is_sound &= take_records(&mut replay.marks, frame.records).is_some();
                (last, kind) = (Some(frame.number), Some(frame.kind));
                at += frame.length;
            }
            None => match next_frame(&bytes[at + 1..]) {
                Some(distance) => {
                    is_sound = false;
                    at += 1 + distance;
                }
                None => break,
            },
        }
    }
    replay.number = replay.number.max(last.unwrap_or(0));
    // A file begins with a frame that was durable before the file had its name.
    kind.filter(|_| is_sound)
}

/// How far it is to the next sound frame.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    let magic = |at: &usize| bytes[*at..].starts_with(&MAGIC);
    (0..bytes.len()).filter(magic).find(|at| Frame::at(&bytes[*at..]).is_some())
}

fn take_records(marks: &mut HashMap<PartKey, Mark>, mut records: &[u8]) -> Option<()> {
    while !records.is_empty() {
        let (length, rest) = records.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (since, rest) = rest.split_first_chunk::<8>()?;
        let (cause, rest) = rest.split_first()?;
        let (seq, since) = (u64::from_be_bytes(*seq), WallTime(u64::from_be_bytes(*since)));
        let mark = Mark { seq, cause: cause_of(*cause)?, since };
        let part = PartKey::from_bytes(key)?;
        if marks.get(&part).is_none_or(|earlier| earlier.seq < mark.seq) {
            marks.insert(part, mark);
        }
        records = rest;
    }
    Some(())
}
