//! `import`: through the socket while a daemon runs, into the store while none does.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::client::Door;
use super::{load, run, small_runtime};
use crate::exit::{self, Failure};
use crate::export::{ExportError, Opener};
use crate::import::{self as lines, BadLine};
use crate::model::Secret;
use crate::store::Store;
use crate::store::imports::Trials;
use crate::store::seal::Keyring;

/// Lines sent at a time.
const AT_ONCE: usize = 1000;
/// A line longer than this is no line of an import.
const MAX_LINE: u64 = 64 << 10;

/// Where the lines go.
enum Target {
    Daemon(Door),
    Store(Box<Store>, tokio::runtime::Runtime),
}

#[derive(Default)]
struct Tally {
    imported: usize,
    /// Lines whose links were left as they are: number and reason.
    left: Vec<BadLine>,
    bad: Vec<BadLine>,
    /// The name of this import, as the daemon gave it.
    run: Option<String>,
    /// Better tokens and logins are replaced as well.
    replace: bool,
}

pub(super) fn import(
    config: &Path,
    file: &Path,
    passphrase_file: Option<&Path>,
    replace: bool,
    as_json: bool,
) -> Result<(), Failure> {
    let mut input = open(file)?;
    let passphrase = passphrase_file.map(read_passphrase).transpose()?;
    let door = Door::find(config)?;
    let target = if door.is_open() { Target::Daemon(door) } else { open_store(config)? };
    let outcome = feed(&target, &mut input, passphrase.as_ref(), replace);
    if let Target::Store(store, runtime) = &target {
        runtime.block_on(store.close());
    }
    let tally = outcome?;
    report(&tally, as_json);
    if tally.imported == 0 && !tally.bad.is_empty() {
        return Err(Failure::new(exit::USAGE, "no line could be imported", "correct the lines named above"));
    }
    Ok(())
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = std::fs::File::open(file);
    let opened = opened.map_err(|e| {
        Failure::new(
            exit::IO,
            format!("{} cannot be read: {e}", file.display()),
            "name a file of links, or - for standard input",
        )
    })?;
    Ok(Box::new(BufReader::new(opened)))
}

fn open_store(config: &Path) -> Result<Target, Failure> {
    let loaded = load(config)?;
    let store = run::open_store(&loaded.config)?;
    store.switch_notices(loaded.config.notify.url.is_some());
    Ok(Target::Store(Box::new(store), small_runtime()?))
}

fn feed(
    target: &Target,
    input: &mut dyn BufRead,
    passphrase: Option<&Secret>,
    replace: bool,
) -> Result<Tally, Failure> {
    let progress = std::io::stderr().is_terminal();
    let (mut tally, mut next, mut first) = (Tally { replace, ..Tally::default() }, 1, 1);
    let mut batch = Vec::new();
    let mut source = Source::Plain;
    loop {
        let mut line = Vec::new();
        let read = input.take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|e| Failure::new(exit::IO, format!("line {next} cannot be read: {e}"), ""))?;
        if read as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            skip_rest(input, next)?;
            tally.bad.push(BadLine { line: next, error: "longer than 64 KiB".to_owned() });
            line = b"\n".to_vec();
        }
        if next == 1 {
            source = Source::of(&line, target, passphrase)?;
        }
        batch.extend_from_slice(&line);
        next += 1;
        if read == 0 || next - first >= AT_ONCE {
            send(target, &source, &batch, first, &mut tally)?;
            batch.clear();
            first = next;
            if progress {
                eprint!("\r{} imported, {} bad", tally.imported, tally.bad.len());
            }
        }
        if read == 0 {
            if progress {
                eprintln!();
            }
            tally.bad.sort_by_key(|bad| bad.line);
            return Ok(tally);
        }
    }
}

fn skip_rest(input: &mut dyn BufRead, line: usize) -> Result<(), Failure> {
    loop {
        let buffer = input.fill_buf();
        let buffer = buffer.map_err(|e| Failure::new(exit::IO, format!("line {line} cannot be read: {e}"), ""))?;
        let (len, end) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(len);
        if end {
            return Ok(());
        }
    }
}

/// What kind of file it is, by its first line.
enum Source {
    /// Plain lines.
    Plain,
    /// An export under the daemon's store key: each batch begins with this line, so that the daemon opens it.
    StoreKey(Vec<u8>),
    /// An export that is opened here.
    Opened(Opener),
}

impl Source {
    fn of(head: &[u8], target: &Target, passphrase: Option<&Secret>) -> Result<Self, Failure> {
        let refuse =
            |e: ExportError| Failure::new(exit::USAGE, e.to_string(), "name the right file, key or passphrase");
        let is_export = serde_json::from_slice::<Value>(head).is_ok_and(|value| value.get("schema").is_some());
        let by_passphrase = serde_json::from_slice::<Value>(head).is_ok_and(|value| value.get("kdf").is_some());
        match target {
            _ if !is_export => Ok(Source::Plain),
            Target::Daemon(_) if !by_passphrase => Ok(Source::StoreKey(head.to_vec())),
            Target::Daemon(_) => {
                let none = || Arc::new(Keyring::new([0; 32], Vec::new()));
                let opener = Opener::from_head(head, none, passphrase).map_err(refuse)?;
                Ok(opener.map_or(Source::Plain, Source::Opened))
            }
            Target::Store(store, _) => {
                let opener = Opener::from_head(head, || store.keyring(), passphrase).map_err(refuse)?;
                Ok(opener.map_or(Source::Plain, Source::Opened))
            }
        }
    }
}

fn send(target: &Target, source: &Source, batch: &[u8], first: usize, tally: &mut Tally) -> Result<(), Failure> {
    match target {
        Target::Daemon(door) => send_to_daemon(door, source, batch, first, tally),
        Target::Store(store, runtime) => {
            let opener = if let Source::Opened(opener) = source { Some(opener) } else { None };
            let mut parsed = lines::parse(batch, first, opener);
            tally.bad.append(&mut parsed.bad);
            let trials = if tally.replace { Trials::Replace } else { Trials::Impossible };
            let stored = runtime.block_on(lines::store(store, store.ticket(), parsed, &trials));
            let stored = stored.map_err(|e| Failure::new(exit::IO, e.to_string(), "see that the disk has room"))?;
            tally.imported += stored.count();
            let left = stored.left.iter();
            tally.left.extend(left.map(|l| BadLine { line: l.line, error: lines::reason_text(l).to_owned() }));
            Ok(())
        }
    }
}

fn send_to_daemon(door: &Door, source: &Source, batch: &[u8], first: usize, tally: &mut Tally) -> Result<(), Failure> {
    let (body, shift) = match source {
        Source::Plain => (batch.to_vec(), first - 1),
        Source::StoreKey(head) if first > 1 => ([head.as_slice(), batch].concat(), first - 2),
        Source::StoreKey(_) => (batch.to_vec(), 0),
        Source::Opened(opener) => {
            let mut parsed = lines::parse(batch, first, Some(opener));
            tally.bad.append(&mut parsed.bad);
            (lines::plain(&parsed, first), first - 1)
        }
    };
    let run = tally.run.as_ref().map_or(String::new(), |run| format!("&run={run}"));
    let path = format!("/v1/import?replace={}{run}", tally.replace);
    let answer = door.call(Method::POST, &path, body)?;
    tally.imported += answer["imported"].as_u64().unwrap_or_default() as usize;
    tally.run = answer["run"].as_str().map(str::to_owned);
    for (list, text, lines) in [("left", "reason", &mut tally.left), ("bad", "error", &mut tally.bad)] {
        for named in answer[list].as_array().into_iter().flatten() {
            let line = named["line"].as_u64().unwrap_or_default() as usize + shift;
            lines.push(BadLine { line, error: named[text].as_str().unwrap_or_default().to_owned() });
        }
    }
    Ok(())
}

/// The passphrase in a file, without its line's end.
pub(super) fn read_passphrase(path: &Path) -> Result<Secret, Failure> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|e| {
        Failure::new(
            exit::IO,
            format!("{} cannot be read: {e}", path.display()),
            "name a file that holds the passphrase",
        )
    })?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

fn report(tally: &Tally, as_json: bool) {
    if as_json {
        let bad: Vec<Value> = tally.bad.iter().map(|b| json!({"line": b.line, "error": b.error})).collect();
        let left: Vec<Value> = tally.left.iter().map(|l| json!({"line": l.line, "reason": l.error})).collect();
        println!("{:#}", json!({"imported": tally.imported, "left": left, "bad": bad}));
        return;
    }
    for left in &tally.left {
        eprintln!("line {}: left as it is: {}", left.line, left.error);
    }
    for bad in &tally.bad {
        eprintln!("line {}: {}", bad.line, bad.error);
    }
    let left = if tally.left.is_empty() { String::new() } else { format!("{} left as they are, ", tally.left.len()) };
    println!("{} links imported, {left}{} bad lines", tally.imported, tally.bad.len());
    if !tally.left.is_empty() {
        println!("use --replace to replace them all the same");
    }
}
