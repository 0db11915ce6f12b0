//! Verbs at a terminal: lines that fit it, colours, and a screen that is drawn again. The terminal is a pseudo-terminal of `script`
//! (util-linux).

use std::process::{Command, Output, Stdio};

use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unicode_width::UnicodeWidthStr;

use crate::harness::{Harness, LIMIT, PROGRAM, until};

/// A verb with these variables at a terminal of so many columns, to be run by `script`. `None`, with a word about it,
/// where there is no `script`.
fn at_terminal(harness: &Harness, columns: u16, verb: &str, variables: &[(&str, &str)]) -> Option<Command> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no program `script` (util-linux)");
        return None;
    }
    let line = format!("stty cols {columns} rows 40; exec {PROGRAM} {verb} --config '{}'", harness.config.display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
    command.envs(variables.iter().copied());
    Some(command)
}

async fn ended(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// The output of a verb at a terminal, without the ends of its lines.
async fn shown(command: Command) -> Vec<String> {
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_fits_the_terminal_and_a_pipe_gets_it_whole() {
    let harness = Harness::plan().pages(3).start().await;
    let user = harness.linked().await.to_string();
    harness.complete().await;
    let page = harness.nth(0);
    let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(&page) };
    harness.world().set_fault_for(Fault::Code { code: 190, subcode: 460 }, scope);
    harness.sync(&page).await;
    until("the page is parked", async || harness.health(&page).await == "needs_relink").await;
    let Some(plain) = at_terminal(&harness, 100, "links", &[("NO_COLOR", "1")]) else { return harness.finish().await };
    let lines = shown(plain).await;
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines.iter().all(|line| line.width() <= 100 && !line.contains('\x1b')), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("needs_relink") && line.ends_with('…')), "{lines:?}");
    assert!(lines[1..].iter().all(|line| line.contains(&format!("{}…", &user[..8]))), "{lines:?}");
    let coloured = shown(at_terminal(&harness, 100, "links", &[]).unwrap()).await.join("\n");
    for part in ["\x1b[32mactive\x1b[0m", "\x1b[31mneeds_relink"] {
        assert!(coloured.contains(part), "{part:?} in {coloured:?}");
    }
    let piped = String::from_utf8(harness.run(&["links"]).await.stdout).unwrap();
    assert!(piped.lines().skip(1).all(|line| line.contains(&user)), "{piped}");
    assert!(!piped.contains('…') && !piped.contains('\x1b') && piped.contains("logs in again and ticks the page"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_sees_how_far_an_export_and_an_import_are() {
    let harness = Harness::plan().pages(3).start().await;
    harness.linked().await;
    let file = harness.scratch_dir().join("links.jsonl");
    let export = format!("export {}", file.display());
    let Some(command) = at_terminal(&harness, 120, &export, &[]) else { return harness.finish().await };
    let text = shown(command).await.join("\n");
    assert!(text.contains("3 of 3 (100 %) links, ") && text.contains(" a second\n3 links exported"), "{text:?}");
    let import = format!("import {}", file.display());
    let text = shown(at_terminal(&harness, 120, &import, &[]).unwrap()).await.join("\n");
    assert!(text.contains("100 % of the file, ") && text.contains(" a second: "), "{text:?}");
    // A pipe has none of it.
    let output = harness.run(&["import", file.to_str().unwrap()]).await;
    assert!(!String::from_utf8(output.stderr).unwrap().contains('%'));
    harness.finish().await;
}

/// A verb that goes on, with its output so far.
struct Running {
    child: tokio::process::Child,
    text: String,
}

impl Running {
    fn start(command: Command) -> Running {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Running { child: command.spawn().unwrap(), text: String::new() }
    }

    /// Reads until this holds of the text.
    async fn until(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        let out = self.child.stdout.as_mut().unwrap();
        let reading = async {
            while !holds(&self.text) {
                let mut piece = [0; 4096];
                let length = out.read(&mut piece).await.unwrap();
                assert!(length > 0, "{what}: it ended with {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        };
        let outcome = tokio::time::timeout(LIMIT, reading).await;
        assert!(outcome.is_ok(), "{what}: {}", self.text);
    }

    /// Its exit code after this signal.
    async fn signalled(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        tokio::time::timeout(LIMIT, self.child.wait()).await.unwrap().unwrap().code()
    }
}

fn watching(harness: &Harness, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["status", "--watch=1"]).args(arguments).arg("--config").arg(&harness.config);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_while_the_daemon_is_away_and_ends_with_ctrl_c() {
    let harness = Harness::plan().pages(2).start().await;
    harness.linked().await;
    let mut blocks = Running::start(watching(&harness, &[]));
    let mut documents = Running::start(watching(&harness, &["--json"]));
    blocks.until("two blocks come", |text| text.matches("links    2").count() >= 2).await;
    documents.until("two documents come", |text| text.lines().count() >= 2 && text.ends_with('\n')).await;
    assert!(documents.text.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["links"] == 2));
    assert!(!blocks.text.contains('\x1b') && blocks.text.starts_with("at "), "{}", blocks.text);
    assert_eq!(harness.daemon.stop().await, Some(0));
    blocks.until("the daemon is missed", |text| text.contains("no daemon answers")).await;
    documents
        .until("a program learns of it", |text| text.contains("{\"error\":{\"message\":\"no daemon answers"))
        .await;
    harness.daemon.start().await.unwrap();
    blocks
        .until("the daemon is back", |text| text.rsplit("watching for it").next().unwrap().contains("links    2"))
        .await;
    assert_eq!(blocks.signalled("-INT").await, Some(0));
    assert_eq!(documents.signalled("-TERM").await, Some(0));
    // A reader that has seen enough ends it.
    let mut seen = Running::start(watching(&harness, &[]));
    seen.until("a block comes", |text| text.contains("links    2")).await;
    drop(seen.child.stdout.take());
    assert_eq!(tokio::time::timeout(LIMIT, seen.child.wait()).await.unwrap().unwrap().code(), Some(0));
    // Without a daemon there is nothing to watch.
    assert_eq!(harness.daemon.stop().await, Some(0));
    assert_eq!(harness.run(&["status", "--watch"]).await.status.code(), Some(69));
    assert_eq!(harness.run(&["status", "--watch=0"]).await.status.code(), Some(64));
    harness.daemon.start().await.unwrap();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_draws_a_terminal_anew_until_ctrl_c() {
    let harness = Harness::plan().pages(2).start().await;
    harness.linked().await;
    let Some(command) = at_terminal(&harness, 120, "status --watch=1", &[]) else { return harness.finish().await };
    let mut watch = Running::start(command);
    watch.until("it is drawn twice", |text| text.matches("\x1b[H").count() >= 2 && text.ends_with("\x1b[J")).await;
    for part in ["Ctrl-C ends it", "links    2", "store    \x1b[32mok\x1b[0m"] {
        assert!(watch.text.contains(part), "{part:?} in {:?}", watch.text);
    }
    watch.child.stdin.as_mut().unwrap().write_all(b"\x03").await.unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, watch.child.wait()).await.unwrap().unwrap().code(), Some(0));
    harness.finish().await;
}
