//! The store's folder: to its owner alone, locked against other processes, and checked for whether the disk reads and
//! writes before anything in it is called damaged.
//!
//! # A failed fsync leaves clean pages behind
//!
//! Linux marks the pages of a file clean even when writing them failed. A later fsync then succeeds without them, reads
//! still see them in the page cache, and a power cut takes them away together with everything that was appended after
//! them. [`write_back`] therefore writes the database's bytes over themselves before it is opened, unless the last
//! process closed it in order: afterwards an fsync speaks for all of them again.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::open_error::OpenError;

/// The database.
pub(super) const DATABASE: &str = "sled";
/// A database that is being filled; of no use before it is renamed.
pub(super) const UNFINISHED: &str = "sled.new";
/// The database that a new one has replaced; goes as soon as the new one is there.
pub(super) const REPLACED: &str = "sled.old";
/// In the name of a database or a file that was damaged and is kept, between its own name and a time.
pub(super) const DAMAGED: &str = ".damaged-";
const LOCK: &str = "lock";
const OWNER_ALONE: u32 = 0o700;
const PIECE: usize = 1 << 20;
/// Space that a copy of the database leaves to others.
const MARGIN: u64 = 16 << 20;

/// Makes the folder, or checks that the present one belongs to this process's user and removes the rights of all
/// others.
pub(super) fn prepare(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(OWNER_ALONE).create(dir).map_err(io)?;
    let found = fs::metadata(dir).map_err(io)?;
    let ours = rustix::process::geteuid().as_raw();
    if found.uid() != ours {
        return Err(OpenError::Owner { path: dir.to_owned(), owner: found.uid(), ours });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        fs::set_permissions(dir, Permissions::from_mode(mode & !0o077)).map_err(io)?;
        tracing::warn!(
            store = %dir.display(),
            "store: the folder's mode was {mode:04o}, which lets others in; it is now {:04o}",
            mode & !0o077
        );
    }
    Ok(())
}

/// Removes the rights of all others from the files in the folder; sled makes its files as the umask says.
pub(super) fn tighten(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = entry.metadata()?;
        let mode = found.mode() & 0o7777;
        if !found.is_symlink() && mode & 0o077 != 0 {
            fs::set_permissions(entry.path(), Permissions::from_mode(mode & !0o077))?;
        }
        if found.is_dir() {
            tighten(&entry.path())?;
        }
    }
    Ok(())
}

/// How long a lock is waited for. A process that ends holds its lock until it is gone, and a child that it starts
/// shares the lock until the child has become its program.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Locks the folder for as long as the file is open.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    let file = options.open(dir.join(LOCK)).map_err(io)?;
    match lock_within(&file, LOCK_PATIENCE) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Locks a file, and waits for another holder for so long.
///
/// # Errors
/// Those of [`File::try_lock`].
pub(crate) fn lock_within(file: &File, patience: Duration) -> Result<(), TryLockError> {
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            outcome => return outcome,
        }
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes leftovers of an interrupted step, and brings back the database that was about to be replaced.
pub(super) fn clear(dir: &Path) -> io::Result<()> {
    let (database, replaced) = (dir.join(DATABASE), dir.join(REPLACED));
    if !database.exists() && replaced.exists() {
        fs::rename(&replaced, &database)?;
        sync(dir)?;
    }
    for leftover in [dir.join(UNFINISHED), replaced] {
        remove_folder(&leftover)?;
    }
    Ok(())
}

/// Removes a folder and all that is in it, if it is there.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) => sync(path.parent().unwrap_or(path)),
        Err(_) => Ok(()),
    }
}

/// Reads every byte of a folder's files once. sled takes a read error in its log for the end of the log, and overwrites
/// the rest. Bytes that were read here come from the page cache when sled reads them.
pub(super) fn read_all(path: &Path) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    for file in files(path)? {
        let file = File::open(file)?;
        let mut at = 0;
        loop {
            match file.read_at(&mut piece, at)? {
                0 => break,
                count => at += count as u64,
            }
        }
    }
    Ok(())
}

/// Does the disk take writes? Makes the calls that sled and the backup log depend on.
pub(super) fn write_something(dir: &Path) -> io::Result<()> {
    let (probe, renamed) = (dir.join("probe"), dir.join("probe.renamed"));
    let mut options = File::options();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(&probe)?;
    file.write_all_at(&[0; 4096], 0)?;
    file.sync_all()?;
    fs::rename(&probe, &renamed)?;
    fs::remove_file(&renamed)?;
    sync(dir)
}

/// Writes the database's bytes over themselves, so that none of them is only in the page cache; see the module's head.
/// No other handle may have it open meanwhile.
pub(super) fn write_back(dir: &Path) -> Result<(), OpenError> {
    match open_alone(dir)? {
        Some(file) => copy_bytes(&file, &file).map_err(|source| OpenError::Io { path: dir.to_owned(), source }),
        None => Ok(()),
    }
}

/// The database's log, locked, so that no other handle has it open; `None` where it is not there.
pub(super) fn open_alone(dir: &Path) -> Result<Option<File>, OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let file = match File::options().read(true).write(true).open(dir.join(DATABASE).join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io)?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Writes the bytes of a file to the same offsets of another one, or of itself, and makes them durable.
pub(super) fn copy_bytes(from: &File, to: &File) -> io::Result<()> {
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    loop {
        match from.read_at(&mut piece, at)? {
            0 => return to.sync_all(),
            count => {
                to.write_all_at(&piece[..count], at)?;
                at += count as u64;
            }
        }
    }
}

/// Is there space for a second copy of the database and the backup log? Without a margin the copy would take the last
/// blocks from the commits.
pub(super) fn has_room_for_a_copy(dir: &Path, backup_log: &Path) -> io::Result<()> {
    // The backup log may be gone; it is written anew then.
    let mut needed = MARGIN + fs::metadata(backup_log).map_or(0, |found| found.len());
    for file in files(&dir.join(DATABASE))? {
        needed += fs::metadata(file)?.len();
    }
    let disk = rustix::fs::statvfs(dir)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed {
        return Ok(());
    }
    let text = format!("{} MB are free and {} MB are needed", free >> 20, needed >> 20);
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

/// Moves a damaged database out of the way, under a name that says when; returns that name.
pub(super) fn move_aside(dir: &Path, now: u64) -> io::Result<PathBuf> {
    let aside = dir.join(format!("{DATABASE}{DAMAGED}{now}"));
    fs::rename(dir.join(DATABASE), &aside)?;
    sync(dir)?;
    Ok(aside)
}

/// Removes all damaged databases and files that are kept, but for the newest of each name if these are to stay; and how
/// many they were.
pub(super) fn remove_damaged(dir: &Path, keep_newest: bool) -> io::Result<usize> {
    let mut removed = 0;
    let mut kept = damaged(dir)?.into_iter().peekable();
    while let Some((of, _, path)) = kept.next() {
        let is_newest = kept.peek().is_none_or(|(next, ..)| *next != of);
        if is_newest && keep_newest {
            continue;
        }
        if path.is_dir() {
            remove_folder(&path)?
        } else {
            remove_file(&path)?
        }
        removed += 1;
    }
    Ok(removed)
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) => sync(path.parent().unwrap_or(path)),
        Err(_) => Ok(()),
    }
}

/// What is kept of damaged databases and files: the name that it had, the time, and its path; by name, oldest first.
fn damaged(dir: &Path) -> io::Result<Vec<(String, u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let parsed = name.to_str().and_then(|name| name.split_once(DAMAGED));
        let parsed = parsed.and_then(|(of, stamp)| Some((of.to_owned(), stamp.parse::<u64>().ok()?)));
        found.extend(parsed.map(|(of, stamp)| (of, stamp, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// The files below a path; none where there is no such folder.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}
