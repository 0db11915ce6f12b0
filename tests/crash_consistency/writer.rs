//! A writer in a process of its own: this very test program, started again with its task in the environment.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Subject;
use crate::disk::run;
use crate::log::Journalist;

const JOB: &str = "PAGESYNCD_CRASH_JOB";

/// What a writer is to do.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Job {
    /// What it writes with.
    pub subject: Subject,
    /// The folder of the database.
    pub dir: PathBuf,
    /// Where it notes what it does.
    pub log: PathBuf,
    /// What its choices follow from.
    pub seed: u64,
    /// How many write at once.
    pub tasks: u32,
}

/// Is this process a writer? Then it writes until it is killed, and this does not return.
pub fn write_if_told() {
    let Ok(job) = std::env::var(JOB) else { return };
    let job: Job = serde_json::from_str(&job).unwrap();
    job.subject.write(&job, Journalist::new(&job.log));
    unreachable!("a writer writes until it is killed");
}

/// A writer that runs; killed when dropped.
pub struct Writer {
    child: Child,
    log: PathBuf,
}

impl Writer {
    /// Starts one; `test` is the test that calls [`write_if_told`]. It dies with this process.
    pub fn start(job: &Job, test: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(JOB, serde_json::to_string(job).unwrap());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Writer { child, log: job.log.clone() }
    }

    /// It is to stop right after this many more acknowledgements.
    pub fn stop_after(&mut self, acknowledgements: u64) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{acknowledgements}").unwrap();
    }

    /// Stops it wherever it is.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        run(Command::new("kill").arg(signal).arg(self.child.id().to_string())).unwrap();
    }

    /// Waits until every thread of it stands still.
    ///
    /// # Errors
    /// It ended, or noted nothing for so long although it is not stopped: in words.
    pub fn wait_for_standstill(&mut self, silence: Duration) -> Result<(), String> {
        let noted = |writer: &Self| fs::metadata(&writer.log).map_or(0, |log| log.len());
        let (mut length, mut until) = (noted(self), Instant::now() + silence);
        while !self.stands_still() {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!("the writer ended: {status}"));
            }
            if noted(self) != length {
                (length, until) = (noted(self), Instant::now() + silence);
            }
            if Instant::now() > until {
                return Err(format!("the writer hangs: nothing was acknowledged for {silence:?}"));
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    }

    fn stands_still(&self) -> bool {
        let tasks = Path::new("/proc").join(self.child.id().to_string()).join("task");
        let states = fs::read_dir(tasks).into_iter().flatten().flatten().map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
        });
        let states: Vec<_> = states.collect();
        !states.is_empty() && states.iter().all(|state| *state == Some('T'))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
