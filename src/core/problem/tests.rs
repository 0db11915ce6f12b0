//! Which signs are which problems.

use super::*;
use crate::core::certificate::CertificateFacts;

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

/// One of ninety days, of which this is left.
fn certificate(left: Duration) -> CertificateFacts {
    let not_after = NOW.plus(left);
    let not_before = WallTime(not_after.0 - 90 * 24 * 60 * 60 * 1000);
    CertificateFacts { names: Vec::new(), common_name: None, not_before, not_after }
}

#[test]
fn a_certificate_is_a_problem_before_it_expires_when_it_has_and_when_there_is_none() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let shown = |certificate: CertificateFacts| Signs { certificate: Some(certificate), ..Signs::default() };
    let refused = Failing { code: Code::AcmeFailing, since: ago(9), error: "no such host".into() };
    let failing = |signs: Signs| Signs { is_acme: true, failing: vec![refused.clone()], ..signs };

    assert_eq!(codes(&shown(certificate(7 * DAY + DAY / 2))), [""; 0]);
    assert_eq!(codes(&shown(certificate(7 * DAY))), ["certificate_expires"]);
    assert_eq!(codes(&failing(shown(certificate(60 * DAY)))), ["acme_failing"]);
    assert_eq!(codes(&failing(shown(certificate(DAY)))), ["certificate_expires", "acme_failing"]);
    let expired = CertificateFacts { not_after: ago(1), ..certificate(DAY) };
    assert_eq!(codes(&shown(expired)), ["certificate_invalid"]);
    let early = CertificateFacts { not_before: NOW.plus(DAY), ..certificate(60 * DAY) };
    let found = problems(&shown(early), NOW);
    assert_eq!((found[0].code, found[0].remedy.as_str()), (Code::CertificateInvalid, "set this machine's clock"));

    assert_eq!(codes(&Signs { is_acme: true, ..Signs::default() }), [""; 0], "the first order is under way");
    let found = problems(&failing(Signs::default()), NOW);
    assert_eq!((found.len(), found[0].code, found[0].since), (1, Code::CertificateMissing, Some(ago(9))));
    assert!(found[0].message.ends_with("nobody can connect: no such host"), "{}", found[0].message);
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
