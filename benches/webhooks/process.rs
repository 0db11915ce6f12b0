//! Processes: the core that each runs on, and the CPU time that each has used.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The core of the daemon and of the yardsticks.
const SERVER_CORE: &str = "0";
/// The core of the load generator and of the sandbox.
const LOAD_CORE: &str = "1";

/// Whether servers and load have a core each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinning {
    Pinned,
    /// The reason why they share all cores.
    Unpinned(String),
}

impl Pinning {
    /// Pins this process to the core of the load. Call it before the first thread starts: `available_parallelism`
    /// then counts one core.
    pub fn of_load() -> Pinning {
        match pin_load() {
            Ok(()) => Pinning::Pinned,
            Err(reason) => Pinning::Unpinned(reason),
        }
    }

    /// A command that runs `program` on the core of the servers.
    pub fn server(&self, program: &Path) -> Command {
        match self {
            Pinning::Unpinned(_) => Command::new(program),
            Pinning::Pinned => {
                let mut command = Command::new("taskset");
                command.args(["-c", SERVER_CORE]).arg(program);
                command
            }
        }
    }

    /// A program that does the same as `program`, on the core of the servers and under the same process id.
    pub fn wrapper(&self, program: &Path, dir: &Path) -> io::Result<PathBuf> {
        if *self != Pinning::Pinned {
            return Ok(program.to_owned());
        }
        let path = dir.join("pinned");
        let program = program.to_string_lossy().replace('\'', r"'\''");
        std::fs::write(&path, format!("#!/bin/sh\nexec taskset -c {SERVER_CORE} '{program}' \"$@\"\n"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

fn pin_load() -> Result<(), String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Err("this process may use one core only".to_owned());
    }
    let pid = std::process::id().to_string();
    // The core of the servers is tried first: a container may forbid it.
    let probe = run(Command::new("taskset").args(["-c", SERVER_CORE, "true"]));
    probe.and_then(|()| run(Command::new("taskset").args(["-a", "-p", "-c", LOAD_CORE, &pid])))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdout(Stdio::null()).output().map_err(|error| format!("taskset: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or(said)
}

/// The CPU time of a process, of all its threads, in user and kernel mode. The kernel counts in ticks of 10 ms.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or_else(|| io::Error::other("/proc/PID/stat has an unknown form"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second()))
}

/// `utime` and `stime`, the 14th and 15th field. The second field is the program's name in parentheses, which may hold
/// spaces and parentheses.
pub fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Of the CPU times in `/proc`.
pub fn ticks_per_second() -> f64 {
    static TICKS: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *TICKS.get_or_init(|| {
        let output = Command::new("getconf").arg("CLK_TCK").output().ok();
        let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
        // 100 on every common Linux.
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(100.0)
    })
}
