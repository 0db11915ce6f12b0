//! Verbs whose output cannot be written: a reader that closed the pipe, a device that is full.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use pagesyncd::core::model::UserId;

use crate::harness::{Harness, free_port};

/// The fate of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    Kept,
    Closed,
    Full,
}

impl Sink {
    fn stdio(self) -> Stdio {
        match self {
            Sink::Kept => Stdio::piped(),
            // The reader is gone before anything is written.
            Sink::Closed => std::io::pipe().unwrap().1.into(),
            Sink::Full => full().into(),
        }
    }
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Runs a verb of the program with these streams.
async fn run(harness: &Harness, arguments: &[String], stdout: Sink, stderr: Sink) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagesyncd"));
    command.args(arguments).arg("--config").arg(&harness.config).stdin(Stdio::null());
    command.stdout(stdout.stdio()).stderr(stderr.stdio());
    tokio::task::spawn_blocking(move || command.spawn().unwrap().wait_with_output().unwrap()).await.unwrap()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_ends_a_verb_quietly_and_a_full_device_is_an_error() {
    let harness = Harness::plan().pages(6).start().await;
    harness.linked().await;
    let pages = harness.pages();
    let user = UserId::random();
    // A file for everybody is worth a warning of `check`.
    std::fs::set_permissions(&harness.config, Permissions::from_mode(0o600)).unwrap();
    let persons = harness.scratch_dir().join("people.csv");
    std::fs::write(&persons, "990000000000000001\n").unwrap();
    let nothing = harness.scratch_dir().join("nothing.jsonl");
    std::fs::write(&nothing, "\n").unwrap();
    let mut verbs: Vec<Vec<String>> = ["status", "status --json", "pages", "pages --json", "check", "check --json"]
        .into_iter()
        .chain(["keygen", "keygen --json", "keygen --notify", "--help", "--version", "status --help"])
        .map(words)
        .collect();
    verbs.extend([
        words(&format!("sync {}", pages[0])),
        words(&format!("sync {} --json", pages[0])),
        words(&format!("session --user {user}")),
        words(&format!("session --user {user} --json")),
        words(&format!("purge {}", persons.display())),
        words(&format!("purge {} --dry-run --json", persons.display())),
        words(&format!("import {}", nothing.display())),
        words(&format!("import {} --json", nothing.display())),
    ]);
    for arguments in &verbs {
        let output = run(&harness, arguments, Sink::Closed, Sink::Kept).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
        let output = run(&harness, arguments, Sink::Full, Sink::Kept).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(74), "{arguments:?}: {said}");
        assert!(said.contains("standard output") && said.contains("No space left"), "{arguments:?}: {said}");
    }
    // A verb that changes something does so all the same, and says that its answer was lost.
    let unlink = |page: &str, json: &[&str]| {
        let mut arguments = words(&format!("unlink {page}"));
        arguments.extend(json.iter().map(|j| (*j).to_owned()));
        arguments
    };
    for (page, json, sink, code) in [
        (&pages[0], &[][..], Sink::Closed, 0),
        (&pages[1], &["--json"], Sink::Closed, 0),
        (&pages[2], &[], Sink::Full, 74),
        (&pages[3], &["--json"], Sink::Full, 74),
    ] {
        let output = run(&harness, &unlink(page, json), sink, Sink::Kept).await;
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!harness.pages_linked().await.contains(page), "{page}");
    }
    // Half an export is none, closed pipe or not.
    for sink in [Sink::Closed, Sink::Full] {
        let output = run(&harness, &words("export -"), sink, Sink::Kept).await;
        assert_eq!(output.status.code(), Some(74), "{}", String::from_utf8_lossy(&output.stderr));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_closed_standard_error_changes_no_exit_code() {
    let mut harness = Harness::plan().pages(2).build().await;
    let bad = harness.scratch_dir().join("bad.jsonl");
    std::fs::write(&bad, "nonsense\n").unwrap();
    let import = words(&format!("import {}", bad.display()));
    for sink in [Sink::Closed, Sink::Full] {
        for (arguments, code) in
            [(words("status"), 69), (words("no-such-verb"), 64), (import.clone(), 65), (words("export -"), 0)]
        {
            let output = run(&harness, &arguments, Sink::Kept, sink).await;
            assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        }
    }
    harness.set("spaces.region", "New York");
    for sink in [Sink::Closed, Sink::Full] {
        for verb in ["check", "run"] {
            let output = run(&harness, &words(verb), Sink::Kept, sink).await;
            assert_eq!(output.status.code(), Some(78), "{verb}");
        }
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_whose_reader_is_gone_goes_on_and_one_on_a_full_device_ends() {
    let harness = Harness::plan().pages(2).build().await;
    let dir = harness.scratch_dir().join("box");
    let (http, console) = (free_port(), free_port());
    let arguments =
        words(&format!("sandbox --dir {} --http 127.0.0.1:{http} --console 127.0.0.1:{console}", dir.display()));
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagesyncd"));
    command.args(&arguments).stdin(Stdio::null()).stdout(Sink::Closed.stdio()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    crate::harness::until("the console answers", async || {
        reqwest::get(format!("http://127.0.0.1:{console}/")).await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = tokio::time::timeout(crate::harness::LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    let output = run(&harness, &arguments, Sink::Full, Sink::Kept).await;
    assert_eq!(output.status.code(), Some(74), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!dir.exists());
    harness.finish().await;
}
