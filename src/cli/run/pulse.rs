//! The pulse of the process: asks the parts for signs of life, feeds systemd's watchdog while every part makes
//! progress, and keeps the text of `systemctl status` up to date.
//!
//! A part that hangs is named after [`HANGS`](crate::core::problem::HANGS). Once it has hung for
//! [`GIVEN_UP`], the watchdog is not fed any more, so that systemd starts the daemon
//! again; which part it was is noted for the next start. The store's threads answer while the disk refuses, too, and a
//! part that waits for a store that is down is excused: a full disk is no reason to be killed.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use ractor::rpc::CallResult;

use super::super::common::parked_reads;
use crate::actors::supervisor::SupervisorMsg;
use crate::context::Context;
use crate::core::part::Part;
use crate::core::problem::{GIVEN_UP, Problem, Severity, hangs};
use crate::metrics::Question;
use crate::runs::Runs;
use crate::services::problems;
use crate::systemd;

/// Between two rounds. The watchdog may ask for a shorter time.
const EVERY: Duration = Duration::from_secs(5);
/// How long the store may take for its counts, in a text that is sent again soon.
const COUNTS: Duration = Duration::from_secs(1);
/// Between two attempts to reach a thread of the store that is gone.
const GONE: Duration = Duration::from_secs(1);
/// Problems in the text of `systemctl status`.
const SHOWN: usize = 3;
/// Characters of the worst of them, and of each other. `pagesyncd status` has the whole.
const WORST: usize = 200;
const OTHER: usize = 110;
/// Longer than any process lives.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Goes on until it is dropped.
pub(super) async fn pulse(context: Arc<Context>, supervisor: ActorRef<SupervisorMsg>, runs: Arc<Runs>) {
    let watchdog = systemd::watchdog_interval();
    let mut tick = tokio::time::interval(watchdog.unwrap_or(EVERY).min(EVERY));
    // Rounds that were missed, while the process was paused for instance, are not made up for.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut given_up = None;
    loop {
        tick.tick().await;
        ask(&context, &supervisor);
        let hung = problems::hanging(&context).into_iter().find(|(_, time)| *time >= GIVEN_UP);
        note(hung, &mut given_up, watchdog.is_some(), &runs);
        if hung.is_none() && watchdog.is_some() {
            systemd::ping();
        }
        systemd::status(&status_line(&context).await);
    }
}

/// Asks each part whose answer to the question before has come. The supervisor asks the other actors when it is asked.
fn ask(context: &Arc<Context>, supervisor: &ActorRef<SupervisorMsg>) {
    let parts = context.metrics.parts();
    if let Some(question) = parts.ask(Part::Supervisor) {
        let supervisor = supervisor.clone();
        tokio::spawn(async move {
            if let Ok(CallResult::Success(())) = supervisor.call(SupervisorMsg::Ping, None).await {
                question.answer();
            }
        });
    }
    if let Some(question) = parts.ask(Part::Store) {
        tokio::spawn(ask_store(context.clone(), question));
    }
}

/// A thread that is gone answers no more than one that hangs, so its question stays open.
async fn ask_store(context: Arc<Context>, question: Question) {
    while !context.store.has_pulse(FOR_EVER).await {
        tokio::time::sleep(GONE).await;
    }
    question.answer();
}

/// Logs and records when a part is given up, and when it is back. `given_up` is the part of the round before.
fn note(hung: Option<(Part, Duration)>, given_up: &mut Option<Part>, has_watchdog: bool, runs: &Runs) {
    match hung {
        Some((part, time)) if *given_up != Some(part) => {
            let text = hangs(part, time);
            let next = if has_watchdog {
                "the watchdog is not fed any more, systemd restarts the daemon"
            } else {
                "restart the daemon; there is no watchdog of systemd to do it"
            };
            tracing::error!("watchdog: {text}; {next}");
            if has_watchdog {
                tokio::task::block_in_place(|| runs.note(Some(text)));
            }
            *given_up = Some(part);
        }
        None if given_up.is_some() => {
            tracing::warn!("watchdog: every part makes progress again, it is fed again");
            tokio::task::block_in_place(|| runs.note(None));
            *given_up = None;
        }
        _ => {}
    }
}

/// The text for `systemctl status`: the problems, and the counts.
pub(super) async fn status_line(context: &Context) -> String {
    let problems = problems::find(context).await;
    let counts = counts(context).await;
    match headline(&problems) {
        None => counts.unwrap_or_else(|| "the counts of the store are not known".to_owned()),
        Some(headline) => counts.map_or(headline.clone(), |counts| format!("{headline} ({counts})")),
    }
}

/// The problems in a line, the worst first. Those that a person outside must solve are left to `pagesyncd status`.
fn headline(problems: &[Problem]) -> Option<String> {
    let urgent: Vec<&Problem> = problems.iter().filter(|problem| problem.code.severity() != Severity::Info).collect();
    let (worst, others) = urgent.split_first()?;
    let mut line = short(&worst.message, WORST);
    for problem in others.iter().take(SHOWN - 1) {
        line.push_str("; ");
        line.push_str(&short(&problem.message, OTHER));
    }
    if urgent.len() > SHOWN {
        line.push_str(&format!("; and {} more, see `pagesyncd status`", urgent.len() - SHOWN));
    }
    Some(line)
}

fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

async fn counts(context: &Context) -> Option<String> {
    let counts = tokio::time::timeout(COUNTS, context.store.counts()).await.ok()?.ok()?;
    let parked = parked_reads(counts.due_parked);
    Some(format!("{} links, {} reads and {} writes owed{parked}", counts.links, counts.due, counts.outbox))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::problem::Code;

    #[test]
    fn the_worst_problem_comes_first_and_those_beyond_the_line_are_counted() {
        let problem = |code: Code| Problem {
            code,
            subject: None,
            since: None,
            message: code.word().to_owned(),
            remedy: String::new(),
        };
        let line = |codes: &[Code]| headline(&codes.iter().copied().map(problem).collect::<Vec<Problem>>());
        assert_eq!(line(&[]), None);
        assert_eq!(line(&[Code::LinksWait]), None);
        assert_eq!(line(&[Code::StoreDown, Code::Behind, Code::LinksWait]).as_deref(), Some("store_down; behind"));
        let four = line(&[Code::StoreDown, Code::Behind, Code::DiskLow, Code::ActorFails]);
        assert_eq!(four.as_deref(), Some("store_down; behind; disk_low; and 1 more, see `pagesyncd status`"));
        assert_eq!(short("ééé", 2), "éé…");
        assert_eq!(short("ééé", 3), "ééé");
    }

    #[test]
    fn a_part_that_is_given_up_is_noted_once_and_forgotten_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::begin(dir.path(), None);
        let mut given_up = None;
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        runtime.block_on(async {
            note(Some((Part::Dispatcher, GIVEN_UP)), &mut given_up, true, &runs);
        });
        assert_eq!(given_up, Some(Part::Dispatcher));
        let noted = |runs: Runs| {
            drop(runs);
            let next = Runs::begin(dir.path(), None);
            (next.past().last().unwrap().end.to_string(), next)
        };
        let (end, runs) = noted(runs);
        assert!(end.contains("the dispatcher has made no progress for 60 s"), "{end}");
        runtime.block_on(async {
            note(Some((Part::Store, GIVEN_UP)), &mut None, true, &runs);
            note(None, &mut given_up, true, &runs);
        });
        assert_eq!(given_up, None);
        let (end, _) = noted(runs);
        assert!(end.contains("killed without a word"), "{end}");
    }
}
