//! Disks that can lose their power: an ext4 file system on a loop device over an image file.
//!
//! What was written but not fsynced lies in the file system's page cache, which belongs to the *mounted* file system;
//! the image file holds only what went through the block layer. A copy of the image is therefore the disk as a power
//! cut would leave it, provided that nothing was written while it was copied: the device's own counters say so, and
//! a copy that they do not vouch for is taken again.
//!
//! Everything lies in one folder per process. It and the mounts in it go when the value is dropped; what a killed run
//! left behind goes at the next start. Loop devices are tied to their mounts and need no care of their own.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PREFIX: &str = "pagesyncd-power-";
const IMAGE_BYTES: u64 = 128 << 20;
const REQUIRE: &str = "PAGESYNCD_CRASH_TESTS";

/// The folder of one test.
pub struct Workshop {
    /// Where images, mounts and logs lie.
    pub dir: PathBuf,
}

impl Workshop {
    /// `None`, with the reason printed, where this machine cannot do it; a panic where it must.
    pub fn open() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        clear_leftovers();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let workshop = Workshop { dir };
        match workshop.probe() {
            Ok(()) => Some(workshop),
            Err(reason) if std::env::var(REQUIRE).is_ok_and(|v| v == "require") => {
                panic!("power cuts cannot be tried here: {reason}")
            }
            Err(reason) => {
                println!("skipped: power cuts cannot be tried here: {reason}");
                None
            }
        }
    }

    fn probe(&self) -> Result<(), String> {
        if fs::metadata("/proc/self").map_err(|e| e.to_string())?.uid() != 0 {
            return Err("only root may mount".into());
        }
        let image = self.dir.join("probe");
        make_image(&image)?;
        Mounted::new(&image, &self.dir.join("probe-mount"))?;
        fs::remove_file(&image).map_err(|e| e.to_string())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        clear(&self.dir);
    }
}

/// Every mount below the folder, then the folder.
fn clear(dir: &Path) {
    for mount in mounts().into_iter().filter(|m| m.at.starts_with(dir)) {
        let _ = unmount(&mount.at);
    }
    let _ = fs::remove_dir_all(dir);
}

fn clear_leftovers() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if pid.bytes().all(|b| b.is_ascii_digit()) && !Path::new("/proc").join(pid).exists() {
            clear(&entry.path());
        }
    }
}

/// Makes an empty file system.
pub fn make_image(image: &Path) -> Result<(), String> {
    let file = File::create(image).map_err(|e| e.to_string())?;
    file.set_len(IMAGE_BYTES).map_err(|e| e.to_string())?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", "nodiscard"]).arg(image))
}

/// A mounted image.
pub struct Mounted {
    /// The root of its file system.
    pub at: PathBuf,
    image: PathBuf,
    counters: PathBuf,
}

impl Mounted {
    /// Mounts the image; ext4 replays its journal as after a power cut.
    pub fn new(image: &Path, at: &Path) -> Result<Self, String> {
        fs::create_dir_all(at).map_err(|e| e.to_string())?;
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop,noatime,noinit_itable"]).arg(image).arg(at))?;
        let device = mounts().into_iter().rfind(|m| m.at == at).ok_or("the mount is not listed")?.device;
        let counters = Path::new("/sys/dev/block").join(device).join("stat");
        Ok(Mounted { at: at.to_owned(), image: image.to_owned(), counters })
    }

    /// Copies what has reached the disk, at one moment. Whoever writes to it must be frozen.
    pub fn cut(&self, to: &Path) {
        let until = Instant::now() + Duration::from_secs(180);
        // Never over an image that something may still hold.
        let _ = fs::remove_file(to);
        loop {
            let (before, busy) = self.traffic();
            if !busy {
                run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&self.image).arg(to)).unwrap();
                if self.traffic() == (before, false) {
                    return;
                }
            }
            assert!(Instant::now() < until, "the device never rests");
            std::thread::yield_now();
        }
    }

    /// Writes, sectors written and flushes that are done; and is one under way?
    fn traffic(&self) -> ([u64; 3], bool) {
        let text = fs::read_to_string(&self.counters).unwrap();
        let numbers: Vec<u64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
        ([numbers[4], numbers[6], numbers.get(15).copied().unwrap_or(0)], numbers[8] != 0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = unmount(&self.at);
        if !std::thread::panicking() {
            unmounted.unwrap();
        }
    }
}

/// A process that was just killed, or a database that was just closed, may hold on for a moment; a sled that panicked
/// holds on for as long as this process lives, and then the mount goes with it.
fn unmount(at: &Path) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        match run(Command::new("umount").arg(at)) {
            Err(_) if Instant::now() > until => return run(Command::new("umount").arg("--lazy").arg(at)),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
            done => return done,
        }
    }
}

struct Mount {
    device: String,
    at: PathBuf,
}

fn mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parsed = text.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2);
        let device = words.next()?.to_owned();
        Some(Mount { device, at: words.nth(1)?.into() })
    });
    parsed.collect()
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{:?}: {said}", command.get_program())) }
}
