//! `import`: through the socket while a daemon runs, into the store while none does.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::client::Door;
use super::{load, run, small_runtime};
use crate::exit::{self, Failure};
use crate::import::{self as lines, BadLine};
use crate::store::Store;

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
    bad: Vec<BadLine>,
}

pub(super) fn import(config: &Path, file: &Path, as_json: bool) -> Result<(), Failure> {
    let mut input = open(file)?;
    let door = Door::find(config)?;
    let target = if door.is_open() { Target::Daemon(door) } else { open_store(config)? };
    let outcome = feed(&target, &mut input);
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
    Ok(Target::Store(Box::new(store), small_runtime()?))
}

fn feed(target: &Target, input: &mut dyn BufRead) -> Result<Tally, Failure> {
    let progress = std::io::stderr().is_terminal();
    let (mut tally, mut next, mut first) = (Tally::default(), 1, 1);
    let mut batch = Vec::new();
    loop {
        let mut line = Vec::new();
        let read = input.take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|e| Failure::new(exit::IO, format!("line {next} cannot be read: {e}"), ""))?;
        if read as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            skip_rest(input, next)?;
            tally.bad.push(BadLine { line: next, error: "longer than 64 KiB".to_owned() });
            line = b"\n".to_vec();
        }
        batch.extend_from_slice(&line);
        next += 1;
        if read == 0 || next - first >= AT_ONCE {
            send(target, &batch, first, &mut tally)?;
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

fn send(target: &Target, batch: &[u8], first: usize, tally: &mut Tally) -> Result<(), Failure> {
    match target {
        Target::Daemon(door) => {
            let answer = door.call(Method::POST, "/v1/import", batch.to_vec())?;
            tally.imported += answer["imported"].as_u64().unwrap_or_default() as usize;
            for bad in answer["bad"].as_array().into_iter().flatten() {
                let line = bad["line"].as_u64().unwrap_or_default() as usize + first - 1;
                tally.bad.push(BadLine { line, error: bad["error"].as_str().unwrap_or_default().to_owned() });
            }
        }
        Target::Store(store, runtime) => {
            let parsed = lines::parse(batch, first);
            let stored = runtime.block_on(lines::store(store, parsed.good));
            let stored = stored.map_err(|e| Failure::new(exit::IO, e.to_string(), "see that the disk has room"))?;
            tally.imported += stored.len();
            tally.bad.extend(parsed.bad);
        }
    }
    Ok(())
}

fn report(tally: &Tally, as_json: bool) {
    if as_json {
        let bad: Vec<Value> = tally.bad.iter().map(|b| json!({"line": b.line, "error": b.error})).collect();
        println!("{:#}", json!({"imported": tally.imported, "bad": bad}));
        return;
    }
    for bad in &tally.bad {
        eprintln!("line {}: {}", bad.line, bad.error);
    }
    println!("{} links imported, {} bad lines", tally.imported, tally.bad.len());
}
