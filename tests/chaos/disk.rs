//! A disk of its own for the store, small enough to be filled: a file system in a file, mounted by the test. That
//! takes root and a loop device; without them the store lies in a plain folder and cannot run out of room.

use std::path::{Path, PathBuf};
use std::process::Command;

const MEGABYTES: u64 = 256;

/// A mounted file system. Dropping it unmounts it; a test that is killed leaves it behind.
pub struct Disk {
    at: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let words = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("{program}: {}", words()))
}

impl Disk {
    /// Makes a file system in the file `image` and mounts it at `at`.
    pub fn mount(image: &Path, at: &Path) -> Result<Disk, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(image).map_err(|error| error.to_string())?;
        file.set_len(MEGABYTES << 20).map_err(|error| error.to_string())?;
        let (image, place) = (image.to_string_lossy(), at.to_string_lossy());
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image])?;
        run("mount", &["-o", "loop", &image, &place])?;
        Ok(Disk { at: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Leaves no space at all: free blocks are taken in pieces that halve until none is left.
    pub fn fill(&self) {
        let ballast = self.ballast();
        let (mut taken, mut piece) = (0, MEGABYTES << 20);
        while piece >= 1024 {
            let (offset, length) = (taken.to_string(), piece.to_string());
            match run("fallocate", &["-o", &offset, "-l", &length, &ballast.to_string_lossy()]) {
                Ok(()) => taken += piece,
                Err(_) => piece /= 2,
            }
        }
    }

    /// Leaves so much room.
    pub fn fill_but(&self, megabytes: u64) {
        self.fill();
        let ballast = std::fs::File::options().write(true).open(self.ballast()).unwrap();
        let taken = ballast.metadata().unwrap().len();
        ballast.set_len(taken - (megabytes << 20)).unwrap();
    }

    /// There is space again.
    pub fn relieve(&self) {
        // Never filled is as good.
        let _ = std::fs::remove_file(self.ballast());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Detached at once even while a dying daemon still has files in it.
        let _ = run("umount", &["-l", &self.at.to_string_lossy()]);
    }
}
