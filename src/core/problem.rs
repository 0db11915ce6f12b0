//! The problems of a daemon: one list, from which `systemctl status`, `status`, `/v1/status` and `/readyz` speak, so
//! that they say the same. Pure: the signs and the moment are arguments.
//!
//! Each problem has a code that does not change, a sentence about the thing, and one about the way out. The worst comes
//! first. A problem that follows from another is left out: while the store hangs or is down, other parts wait for it.

mod code;
mod signs;

use std::time::Duration;

pub use self::code::{Code, Severity};
pub use self::signs::{FailedActor, Failing, PastRun, Refusal, RunEnd, Signs};
use crate::core::model::WallTime;
use crate::core::part::Part;

/// A part that has not answered for this long hangs. The longest step of a healthy one is far shorter.
pub const HANGS: Duration = Duration::from_secs(20);
/// From here on the watchdog is not fed any more, and systemd ends the process after the unit's `WatchdogSec=`.
pub const GIVEN_UP: Duration = Duration::from_secs(60);
/// How far back starts, ends and failures count.
pub const RECENT: Duration = Duration::from_secs(30 * 60);
/// So many starts after unclean ends, or failures of one actor, within [`RECENT`] are a loop.
pub const LOOP: usize = 3;
/// The end of the last run is shown for this long.
const LAST_END: Duration = Duration::from_secs(60 * 60);
/// A disk with less free space is about to be full, as the alert has it.
const DISK_LOW: u64 = 256 << 20;
/// A read or write that the daemon can make has waited too long, as the alert has it.
const BEHIND: Duration = Duration::from_secs(15 * 60);
/// Personal data is still there after this long, as the alert has it.
const OVERDUE: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub code: Code,
    /// The part, actor or dependency that it is about, where there are several.
    pub subject: Option<String>,
    /// Since when, where the daemon knows.
    pub since: Option<WallTime>,
    /// One sentence about the thing.
    pub message: String,
    /// One sentence about the way out.
    pub remedy: String,
}

/// The problems that these signs show, the worst first.
pub fn problems(signs: &Signs, now: WallTime) -> Vec<Problem> {
    let mut found = hanging(signs, now);
    found.extend(store(signs));
    found.extend(runs(&signs.runs, now));
    found.extend(listener(signs, now));
    found.extend(signs.failing.iter().filter(|failing| is_shown(failing, signs)).map(dependency));
    found.extend(signs.refused.as_ref().map(config));
    found.extend(signs.actors.iter().filter_map(|actor| failed(actor, now)));
    found.extend(late(signs, now));
    found.extend(signs.cluster.iter().map(|warning| {
        plain(Code::ClusterWarning, warning.clone(), "give all daemons of the database the same settings")
    }));
    found.extend(signs.mended.as_ref().map(|mended| {
        plain(
            Code::StoreMended,
            format!("the store was mended: {mended}"),
            "nothing is left to do for the links; have the disk checked, and keep the copy until you know the cause",
        )
    }));
    found.extend((signs.parked > 0).then(|| {
        let count = signs.parked;
        let links = if count == 1 { "1 link waits".to_owned() } else { format!("{count} links wait") };
        plain(Code::LinksWait, format!("{links} for a person"), "`pagesyncd links` says for each what the person does")
    }));
    found.sort_by_key(|problem| (problem.code.severity(), problem.code));
    found
}

fn plain(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { code, subject: None, since: None, message: message.into(), remedy: remedy.into() }
}

/// The parts that hang, of those that were asked and have not answered yet. One for which the others wait is named
/// alone.
pub fn hung(waiting: &[(Part, Duration)], is_store_down: bool) -> Vec<(Part, Duration)> {
    let mut hung: Vec<(Part, Duration)> = waiting.iter().copied().filter(|(_, time)| *time >= HANGS).collect();
    hung.sort();
    match hung.first() {
        Some((Part::Store | Part::Supervisor, _)) => hung.truncate(1),
        Some(_) if is_store_down => hung.clear(),
        _ => {}
    }
    hung
}

/// The sentence about a part that hangs.
pub fn hangs(part: Part, time: Duration) -> String {
    format!("the {} has made no progress for {} s: {}", part.word(), time.as_secs(), part.standstill())
}

fn hanging(signs: &Signs, now: WallTime) -> Vec<Problem> {
    let problem = |(part, time): (Part, Duration)| {
        let disk = if part == Part::Store { "look at its disk or database; " } else { "" };
        let remedy = format!(
            "{disk}systemd restarts the daemon when this lasts, and nothing is lost; without systemd restart it; report \
             it with the log"
        );
        let subject = Some(part.word().to_owned());
        let since = Some(before(now, time));
        Problem { subject, since, ..plain(Code::PartHangs, hangs(part, time), remedy) }
    };
    hung(&signs.waiting, signs.store_down.is_some()).into_iter().map(problem).collect()
}

fn before(now: WallTime, age: Duration) -> WallTime {
    WallTime(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}

/// The text of ENOSPC and of EDQUOT.
fn is_full(reason: &str) -> bool {
    reason.contains("No space left on device") || reason.contains("quota exceeded")
}

fn store(signs: &Signs) -> Option<Problem> {
    let folder = signs.folder.as_deref().unwrap_or("the store");
    let room = |free: u64| format!("make room on the disk of {folder} ({} KiB free); it goes on by itself", free >> 10);
    match (&signs.store_down, signs.free_bytes) {
        (Some(reason), free) if is_full(reason) => {
            Some(plain(Code::DiskFull, format!("the store's disk is full: {reason}"), room(free.unwrap_or_default())))
        }
        (Some(reason), _) => {
            let remedy = match signs.folder {
                Some(_) => format!("look at the disk of {folder}; it goes on by itself when the disk works"),
                None => "look at the database and the way to it; it goes on by itself when it answers".to_owned(),
            };
            Some(plain(Code::StoreDown, format!("the store takes no writes: {reason}"), remedy))
        }
        (None, Some(free)) if free < DISK_LOW => {
            let message = format!("the store's disk has {} MiB left", free >> 20);
            Some(plain(Code::DiskLow, message, format!("make room on the disk of {folder} before it is full")))
        }
        (None, _) => None,
    }
}

/// The runs of the last [`RECENT`] that did not end in order, and were followed by another start.
pub fn unclean_ends(runs: &[PastRun], now: WallTime) -> usize {
    runs.iter().filter(|run| now.since(run.over_at) < RECENT && run.end.is_unclean()).count()
}

fn runs(runs: &[PastRun], now: WallTime) -> Option<Problem> {
    let unclean = unclean_ends(runs, now);
    let last = runs.last().filter(|run| run.end != RunEnd::Stopped)?;
    let since = Some(last.over_at);
    if unclean >= LOOP {
        let (minutes, end) = (RECENT.as_secs() / 60, &last.end);
        let message =
            format!("started {unclean} times in {minutes} minutes after ends without order; the last end: {end}");
        let remedy = "`journalctl -u pagesyncd` has each end; after an upgrade install the version before, and look at \
                      the machine's memory and disk";
        return Some(Problem { since, ..plain(Code::CrashLoop, message, remedy) });
    }
    (now.since(last.over_at) < LAST_END).then(|| {
        let message = format!("the run before this one did not stop in order: {}", last.end);
        let remedy = "nothing is lost; if it comes again, `journalctl -u pagesyncd` has the cause";
        Problem { since, ..plain(Code::UncleanEnd, message, remedy) }
    })
}

fn dependency(failing: &Failing) -> Problem {
    let (subject, remedy) = match failing.code {
        Code::GraphFailing => ("graph", "`pagesyncd check --online` names the cause; reads wait, and nothing is lost"),
        Code::SpacesFailing => {
            ("spaces", "`pagesyncd check --online` names the cause; writes wait, and nothing is lost")
        }
        Code::AcmeFailing => ("acme", "correct what it names; `systemctl reload pagesyncd` orders again at once"),
        Code::ShopifyFailing => ("shopify", "look at Shopify's status page and at the client secret; reads wait"),
        _ => ("notify", "repair the receiver at notify.url; events wait and are sent again"),
    };
    Problem {
        subject: Some(subject.to_owned()),
        since: Some(failing.since),
        ..plain(failing.code, format!("{subject} is failing: {}", failing.error), remedy)
    }
}

/// Without a certificate, the failure of the authority is part of that problem.
fn is_shown(failing: &Failing, signs: &Signs) -> bool {
    failing.code != Code::AcmeFailing || signs.certificate.is_some()
}

fn listener(signs: &Signs, now: WallTime) -> Option<Problem> {
    let Some(facts) = &signs.certificate else {
        let refused = signs.failing.iter().find(|failing| failing.code == Code::AcmeFailing)?;
        let message = format!("the public listener has no certificate to show, nobody can connect: {}", refused.error);
        let missing = plain(Code::CertificateMissing, message, dependency(refused).remedy);
        return Some(Problem { since: Some(refused.since), ..missing });
    };
    let remedy = match signs.is_acme {
        true => {
            "`tls` in `pagesyncd status` has the authority's words; `systemctl reload pagesyncd` orders again at once"
        }
        false => "renew the files, then `systemctl reload pagesyncd`, or restart it where they are credentials",
    };
    let (from, until) = (facts.not_before.rfc3339(), facts.not_after.rfc3339());
    if facts.not_after <= now {
        let message = format!("the certificate of the public listener expired on {until}, callers refuse it");
        let invalid = plain(Code::CertificateInvalid, message, remedy);
        Some(Problem { since: Some(facts.not_after), ..invalid })
    } else if facts.not_before > now {
        let message = format!("the certificate of the public listener is not valid before {from}");
        Some(plain(Code::CertificateInvalid, message, "set this machine's clock"))
    } else if facts.expires_soon(now) {
        let message = format!("the certificate of the public listener expires on {until}");
        Some(Problem { since: Some(facts.warning()), ..plain(Code::CertificateExpires, message, remedy) })
    } else {
        None
    }
}

fn config(refusal: &Refusal) -> Problem {
    let Refusal { error, is_kept } = refusal;
    let message = match is_kept {
        true => format!("configuration file refused, running on the kept one: {error}"),
        false => format!("reload refused: {error}"),
    };
    plain(
        Code::ConfigRefused,
        message,
        "`pagesyncd check` names each mistake; correct the file, then `systemctl reload pagesyncd`",
    )
}

fn failed(actor: &FailedActor, now: WallTime) -> Option<Problem> {
    let recent: Vec<WallTime> = actor.times.iter().copied().filter(|at| now.since(*at) < RECENT).collect();
    let FailedActor { name, error, .. } = actor;
    let out = match name.split_once(' ') {
        Some(("page", _)) => "; `pagesyncd unlink` takes the link out",
        _ => "",
    };
    (recent.len() >= LOOP).then(|| Problem {
        subject: Some(name.clone()),
        since: recent.first().copied(),
        ..plain(
            Code::ActorFails,
            format!("{name} failed {} times in {} minutes: {error}", recent.len(), RECENT.as_secs() / 60),
            format!("it is started again each time and nothing is lost; report it with the log{out}"),
        )
    })
}

fn late(signs: &Signs, now: WallTime) -> Vec<Problem> {
    let mut found = Vec::new();
    if signs.oldest_owed > BEHIND {
        let message = format!("a read or write has waited for {} minutes", signs.oldest_owed.as_secs() / 60);
        let remedy = "the problem of a dependency, or the limits of Graph in `pagesyncd status`, say why";
        found.push(Problem { since: Some(before(now, signs.oldest_owed)), ..plain(Code::Behind, message, remedy) });
    }
    if signs.oldest_deletion > OVERDUE {
        let days = signs.oldest_deletion.as_secs() / (24 * 60 * 60);
        let message = format!("personal data that was to be deleted {days} days ago is still there");
        let remedy =
            "`cleanups` and `outbox` of `pagesyncd status --json` show what is left; see the alert DeletionLate";
        let since = Some(before(now, signs.oldest_deletion));
        found.push(Problem { since, ..plain(Code::DeletionOverdue, message, remedy) });
    }
    found
}

#[cfg(test)]
mod tests;
