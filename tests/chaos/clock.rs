//! The wall clock of the daemon, which a test sets while the daemon runs. libfaketime (the Debian package `faketime`)
//! lies between the program and the system and reads the offset from a file each time that it is asked; the monotonic
//! clock goes on as it did, as it does when an administrator or a time server sets a machine's clock.
//!
//! Where the library is missing the clock is not set, and the test says so. With `CI=true` or
//! `PAGESYNCD_CLOCK_TESTS=require` that is a failure.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Debian has a folder for each architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock to set.
pub struct Clock {
    library: PathBuf,
    dir: tempfile::TempDir,
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir(LIBRARIES).ok()?.flatten().map(|folder| folder.path().join(LIBRARY));
    folders.chain([Path::new(LIBRARIES).join(LIBRARY)]).find(|library| library.exists())
}

fn is_required() -> bool {
    let says = |name: &str, word: &str| std::env::var(name).is_ok_and(|value| value == word);
    says("CI", "true") || says("PAGESYNCD_CLOCK_TESTS", "require")
}

impl Clock {
    /// A clock that is right so far; `Err` says why there is none.
    pub fn find() -> Result<Clock, String> {
        let Some(library) = library() else {
            let reason = "no libfaketime (Debian package faketime), so the daemon's clock cannot be set";
            assert!(!is_required(), "{reason}");
            return Err(reason.into());
        };
        let clock = Clock { library, dir: tempfile::tempdir().unwrap() };
        clock.set(0);
        Ok(clock)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    /// The environment of a daemon that goes by this clock.
    pub fn env(&self) -> Vec<(String, String)> {
        let (library, file) = (self.library.to_string_lossy(), self.file());
        let env = [
            ("LD_PRELOAD", library.as_ref()),
            ("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy()),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        env.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Sets it off by so many seconds.
    pub fn set(&self, off: i64) {
        // Whole or not at all: the daemon may read it at this moment.
        let draft = self.dir.path().join("draft");
        std::fs::write(&draft, format!("{off:+}")).unwrap();
        // libfaketime looks at the file's time to see that it changed.
        let changed = SystemTime::now() + Duration::from_secs(off.unsigned_abs());
        std::fs::File::options().write(true).open(&draft).unwrap().set_modified(changed).unwrap();
        std::fs::rename(draft, self.file()).unwrap();
    }
}

impl Drop for Clock {
    /// libfaketime keeps memory by the number of its process, which a killed one leaves behind.
    fn drop(&mut self) {
        for file in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
            if number.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Another test may be tidying too.
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}
