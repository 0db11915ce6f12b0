//! The problems of a daemon: one list, from which `systemctl status`, `status`, `/v1/status` and `/readyz` speak, so
//! that they say the same. Pure: the signs and the moment are arguments.
//!
//! Each problem has a code that does not change, a sentence about the thing, and one about the way out. The worst comes
//! first. A problem that follows from another is left out: while the store hangs or is down, other parts wait for it.

use std::fmt;
use std::time::Duration;

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

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The daemon does not do its work, or may stop doing it at any moment.
    Critical,
    /// It does its work, and somebody should look today.
    Warning,
    /// A person outside must act, and the daemon is healthy.
    Info,
}

impl Severity {
    /// Its word, which is that of the alerts.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// Which problem. The order is that of the list, within one severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A part makes no progress.
    PartHangs,
    /// The disk of the store has no space left.
    DiskFull,
    /// The store takes no writes.
    StoreDown,
    /// The daemon was started again and again.
    CrashLoop,
    /// Spaces fails.
    SpacesFailing,
    /// Graph fails.
    GraphFailing,
    /// The configuration file is refused, and an earlier configuration is in force.
    ConfigRefused,
    /// The disk of the store is about to be full.
    DiskLow,
    /// An actor fails again and again.
    ActorFails,
    /// Shopify fails.
    ShopifyFailing,
    /// The receiver of events fails.
    NotifyFailing,
    /// A read or a write has waited too long.
    Behind,
    /// Personal data that was to be deleted is still there.
    DeletionOverdue,
    /// The daemons that share the database are not set up alike.
    ClusterWarning,
    /// The run before this one did not end in order.
    UncleanEnd,
    /// Damage of the store was mended.
    StoreMended,
    /// Links wait for a person.
    LinksWait,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 17] = [
        Code::PartHangs,
        Code::DiskFull,
        Code::StoreDown,
        Code::CrashLoop,
        Code::SpacesFailing,
        Code::GraphFailing,
        Code::ConfigRefused,
        Code::DiskLow,
        Code::ActorFails,
        Code::ShopifyFailing,
        Code::NotifyFailing,
        Code::Behind,
        Code::DeletionOverdue,
        Code::ClusterWarning,
        Code::UncleanEnd,
        Code::StoreMended,
        Code::LinksWait,
    ];

    /// The code in JSON, in the reference and for `explain`.
    pub fn word(self) -> &'static str {
        match self {
            Code::PartHangs => "part_hangs",
            Code::DiskFull => "disk_full",
            Code::StoreDown => "store_down",
            Code::CrashLoop => "crash_loop",
            Code::SpacesFailing => "spaces_failing",
            Code::GraphFailing => "graph_failing",
            Code::ConfigRefused => "config_refused",
            Code::DiskLow => "disk_low",
            Code::ActorFails => "actor_fails",
            Code::ShopifyFailing => "shopify_failing",
            Code::NotifyFailing => "notify_failing",
            Code::Behind => "behind",
            Code::DeletionOverdue => "deletion_overdue",
            Code::ClusterWarning => "cluster_warning",
            Code::UncleanEnd => "unclean_end",
            Code::StoreMended => "store_mended",
            Code::LinksWait => "links_wait",
        }
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Code::PartHangs
            | Code::DiskFull
            | Code::StoreDown
            | Code::CrashLoop
            | Code::SpacesFailing
            | Code::GraphFailing => Severity::Critical,
            Code::ConfigRefused
            | Code::DiskLow
            | Code::ActorFails
            | Code::ShopifyFailing
            | Code::NotifyFailing
            | Code::Behind
            | Code::DeletionOverdue
            | Code::ClusterWarning => Severity::Warning,
            Code::UncleanEnd | Code::StoreMended | Code::LinksWait => Severity::Info,
        }
    }
}

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

/// How a run of the daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// It stopped in order.
    Stopped,
    /// It ended by itself, with this reason.
    Failed(String),
    /// It was ended from outside after it had noted this.
    Noted(String),
    /// It was ended without a word while the machine ran on.
    Silent,
    /// It was ended without a word, and the machine was booted since.
    Booted,
}

impl RunEnd {
    /// Does it count for a crash loop?
    pub fn is_unclean(&self) -> bool {
        matches!(self, RunEnd::Failed(_) | RunEnd::Noted(_) | RunEnd::Silent)
    }
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunEnd::Stopped => f.write_str("an orderly stop"),
            RunEnd::Failed(reason) => f.write_str(reason),
            RunEnd::Noted(reason) => write!(f, "ended from outside after {reason}"),
            RunEnd::Silent => f.write_str("killed without a word (SIGKILL, out of memory, or an abort)"),
            RunEnd::Booted => f.write_str("cut off with the whole machine"),
        }
    }
}

/// A run before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    /// When the next run began, which is the closest that is known to its end.
    pub over_at: WallTime,
    /// How it ended.
    pub end: RunEnd,
}

/// An actor that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedActor {
    /// Its name in the log, such as `page user/1002`.
    pub name: String,
    /// When it failed, the latest last; only those of the last [`RECENT`].
    pub times: Vec<WallTime>,
    /// Its last error.
    pub error: String,
}

/// A dependency that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Its code.
    pub code: Code,
    /// Since when.
    pub since: WallTime,
    /// Its last error.
    pub error: String,
}

/// Why the configuration file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The mistake.
    pub error: String,
    /// The process was started on the kept configuration.
    pub is_kept: bool,
}

/// What the daemon knows of itself.
#[derive(Debug, Clone, Default)]
pub struct Signs {
    /// Parts that were asked and have not answered yet, and for how long.
    pub waiting: Vec<(Part, Duration)>,
    /// Why the store takes no writes.
    pub store_down: Option<String>,
    /// The folder of a local store.
    pub folder: Option<String>,
    /// What its disk has left.
    pub free_bytes: Option<u64>,
    /// The configuration file is refused.
    pub refused: Option<Refusal>,
    /// The runs before this one, the latest last.
    pub runs: Vec<PastRun>,
    /// Actors that failed.
    pub actors: Vec<FailedActor>,
    /// Dependencies that fail.
    pub failing: Vec<Failing>,
    /// The age of the oldest read or write that the daemon can make.
    pub oldest_owed: Duration,
    /// The age of the oldest deletion that is not finished.
    pub oldest_deletion: Duration,
    /// Links that wait for a person.
    pub parked: u64,
    /// What the daemons of one database have to say of their settings.
    pub cluster: Vec<String>,
    /// The damage of the store that was mended.
    pub mended: Option<String>,
}

/// The problems that these signs show, the worst first.
pub fn problems(signs: &Signs, now: WallTime) -> Vec<Problem> {
    let mut found = hanging(signs, now);
    found.extend(store(signs));
    found.extend(runs(&signs.runs, now));
    found.extend(signs.failing.iter().map(dependency));
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
        Code::ShopifyFailing => ("shopify", "look at Shopify's status page and at the client secret; reads wait"),
        _ => ("notify", "repair the receiver at notify.url; events wait and are sent again"),
    };
    Problem {
        subject: Some(subject.to_owned()),
        since: Some(failing.since),
        ..plain(failing.code, format!("{subject} is failing: {}", failing.error), remedy)
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
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_795_341_600_000);

    fn ago(secs: u64) -> WallTime {
        WallTime(NOW.0 - secs * 1000)
    }

    fn codes(signs: &Signs) -> Vec<&'static str> {
        problems(signs, NOW).iter().map(|problem| problem.code.word()).collect()
    }

    fn silent(at: WallTime) -> PastRun {
        PastRun { over_at: at, end: RunEnd::Silent }
    }

    #[test]
    fn a_daemon_without_signs_of_trouble_has_no_problem() {
        let signs = Signs {
            waiting: vec![(Part::Dispatcher, Duration::from_secs(19))],
            free_bytes: Some(1 << 30),
            runs: vec![PastRun { over_at: ago(1), end: RunEnd::Stopped }],
            oldest_owed: Duration::from_secs(900),
            ..Signs::default()
        };
        assert_eq!(codes(&signs), [""; 0]);
    }

    #[test]
    fn the_part_that_others_wait_for_is_named_alone() {
        let (long, longer) = (Duration::from_secs(30), Duration::from_secs(42));
        let of = |waiting: &[(Part, Duration)]| Signs { waiting: waiting.to_vec(), ..Signs::default() };
        let subjects = |signs: &Signs| -> Vec<String> {
            problems(signs, NOW).into_iter().filter_map(|problem| problem.subject).collect()
        };
        assert_eq!(subjects(&of(&[(Part::Uploader, longer), (Part::Store, long)])), ["store"]);
        assert_eq!(subjects(&of(&[(Part::Dispatcher, long), (Part::Supervisor, longer)])), ["supervisor"]);
        assert_eq!(subjects(&of(&[(Part::Notifier, long), (Part::Dispatcher, longer)])), ["dispatcher", "notifier"]);
        let hung = &problems(&of(&[(Part::Dispatcher, longer)]), NOW)[0];
        assert_eq!(hung.message, "the dispatcher has made no progress for 42 s: no read begins after a webhook");
        assert_eq!((hung.since, hung.code.severity()), (Some(ago(42)), Severity::Critical));
        let down = Signs { store_down: Some("x".into()), ..of(&[(Part::Uploader, longer)]) };
        assert_eq!(codes(&down), ["store_down"], "it waits for the store");
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors_and_from_one_that_fills() {
        let free = |bytes: u64| Signs { free_bytes: Some(bytes), ..Signs::default() };
        let down = |reason: &str| Signs { store_down: Some(reason.to_owned()), ..free(0) };
        assert_eq!(codes(&down("IO error: No space left on device (os error 28)")), ["disk_full"]);
        assert_eq!(codes(&down("IO error: Input/output error (os error 5)")), ["store_down"]);
        assert_eq!(codes(&free(0)), ["disk_low"], "a write that needs no new space may succeed");
        assert_eq!(codes(&free(255 << 20)), ["disk_low"]);
        assert_eq!(codes(&free(256 << 20)), [""; 0]);
    }

    #[test]
    fn three_unclean_ends_in_half_an_hour_are_a_loop_and_one_is_a_note() {
        let of = |runs: Vec<PastRun>| Signs { runs, ..Signs::default() };
        assert_eq!(codes(&of(vec![silent(ago(10))])), ["unclean_end"]);
        assert_eq!(codes(&of(vec![silent(ago(1790)), silent(ago(20)), silent(ago(10))])), ["crash_loop"]);
        assert_eq!(codes(&of(vec![silent(ago(1801)), silent(ago(20)), silent(ago(10))])), ["unclean_end"]);
        assert_eq!(codes(&of(vec![silent(ago(3601))])), [""; 0]);
        let stopped = PastRun { over_at: ago(5), end: RunEnd::Stopped };
        assert_eq!(codes(&of(vec![silent(ago(30)), silent(ago(20)), silent(ago(10)), stopped])), [""; 0], "it is over");
        let noted = PastRun { end: RunEnd::Noted("the store hung".into()), ..silent(ago(1)) };
        let signs = of(vec![silent(ago(30)), silent(ago(20)), noted]);
        assert!(problems(&signs, NOW)[0].message.ends_with("the last end: ended from outside after the store hung"));
        let booted = PastRun { end: RunEnd::Booted, ..silent(ago(1)) };
        assert_eq!(codes(&of(vec![silent(ago(30)), booted.clone(), booted])), ["unclean_end"]);
    }

    #[test]
    fn an_actor_that_fails_three_times_in_half_an_hour_is_named() {
        let actor = |times: &[u64]| FailedActor {
            name: "page u/1".into(),
            times: times.iter().map(|secs| ago(*secs)).collect(),
            error: "a bug".into(),
        };
        let signs = Signs { actors: vec![actor(&[1900, 20, 10]), actor(&[1700, 20, 10])], ..Signs::default() };
        let found = problems(&signs, NOW);
        assert_eq!((found.len(), found[0].since), (1, Some(ago(1700))));
        assert_eq!(found[0].message, "page u/1 failed 3 times in 30 minutes: a bug");
    }

    #[test]
    fn the_worst_comes_first() {
        let signs = Signs {
            parked: 2,
            refused: Some(Refusal { error: "x".into(), is_kept: false }),
            failing: vec![Failing { code: Code::SpacesFailing, since: ago(9), error: "403".into() }],
            waiting: vec![(Part::Uploader, GIVEN_UP)],
            oldest_owed: Duration::from_secs(1000),
            oldest_deletion: OVERDUE * 2,
            cluster: vec!["two buckets".into()],
            mended: Some("one record".into()),
            ..Signs::default()
        };
        let wanted = [
            "part_hangs",
            "spaces_failing",
            "config_refused",
            "behind",
            "deletion_overdue",
            "cluster_warning",
            "store_mended",
            "links_wait",
        ];
        assert_eq!(codes(&signs), wanted);
        let severities: Vec<Severity> = Code::ALL.iter().map(|code| code.severity()).collect();
        assert!(severities.is_sorted(), "the order of the codes is that of their severities");
    }
}
