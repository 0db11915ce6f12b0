//! `import`: through the socket if a daemon runs, otherwise into the store.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::admin::AdminClient;
use super::common::{load, small_runtime};
use super::output::{line, note};
use super::progress::{Progress, percent};
use super::run;
use crate::core::grant::Ticket;
use crate::core::model::{LinkKey, Secret};
use crate::exit::{self, Failure};
use crate::services::export::{ExportError, Opener};
use crate::services::import::{self as lines, BadLine, Repeated};
use crate::store::Store;
use crate::store::imports::{LeftLine, Trials};
use crate::store::seal::Keyring;

/// Lines sent at a time.
const AT_ONCE: usize = 1000;
/// A longer line is a bad one.
const MAX_LINE: u64 = 64 << 10;

/// Where the lines go.
enum Target {
    Daemon(AdminClient),
    Store(Box<Store>, tokio::runtime::Runtime, Ticket),
}

#[derive(Default)]
struct Tally {
    imported: usize,
    /// Lines whose links were left as they are: number and reason.
    left: Vec<BadLine>,
    /// Lines whose links were made with the pair that their shop has: number and reason.
    kept: Vec<BadLine>,
    bad: Vec<BadLine>,
    repeated: Vec<Repeated>,
    /// Lines with something in them.
    lines: usize,
    /// The last good line of each link.
    seen: HashMap<LinkKey, usize>,
    /// The name of this import, as the daemon gave it.
    run: Option<String>,
    /// Better tokens and logins are replaced as well.
    replace: bool,
}

/// Lines that are sent together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The number of its first line.
    first: usize,
    /// The links that its lines are about.
    links: Vec<(usize, LinkKey)>,
}

pub(super) fn import(
    config: &Path,
    file: &Path,
    passphrase_file: Option<&Path>,
    replace: bool,
    as_json: bool,
) -> Result<(), Failure> {
    let (mut input, size) = open(file)?;
    let passphrase = passphrase_file.map(read_passphrase).transpose()?;
    bring(config, (&mut input, size), passphrase.as_ref(), Into::Any { replace }, as_json)
}

/// The stores that an import takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// An empty one: a store with links is refused.
    Empty,
    /// Any. With `replace`, better tokens and logins are replaced as well.
    Any { replace: bool },
}

/// Imports the lines, which have so many bytes where that is known, into the running daemon or, where none runs, into the
/// store, and reports.
pub(super) fn bring(
    config: &Path,
    (input, size): (&mut dyn BufRead, Option<u64>),
    passphrase: Option<&Secret>,
    into: Into,
    as_json: bool,
) -> Result<(), Failure> {
    let client = AdminClient::find(config)?;
    let target = if client.is_open() { Target::Daemon(client) } else { open_store(config)? };
    let mut tally = Tally { replace: into == Into::Any { replace: true }, ..Tally::default() };
    let allowed = if into == Into::Empty { target.is_empty() } else { Ok(()) };
    let outcome = allowed.and_then(|()| feed(&target, input, size, passphrase, &mut tally));
    if let Target::Store(store, runtime, _) = &target {
        runtime.block_on(store.close());
    }
    tally.bad.sort_by_key(|bad| bad.line);
    tally.left.sort_by_key(|left| left.line);
    tally.kept.sort_by_key(|kept| kept.line);
    // A failure half-way leaves links imported and lines bad: both are reported.
    let reported = if outcome.is_ok() || tally.lines > 0 { report(&tally, as_json) } else { Ok(()) };
    outcome.and(reported)?;
    if tally.bad.is_empty() {
        return Ok(());
    }
    let what = format!("{} of {} lines are bad and were not imported", tally.bad.len(), tally.lines);
    Err(Failure::new(exit::DATA, what, "correct the lines named above and import them again"))
}

impl Target {
    /// Fails where there are links.
    fn is_empty(&self) -> Result<(), Failure> {
        let links = match self {
            Target::Daemon(client) => {
                let status = client.call(Method::GET, "/v1/status", "")?;
                let strange = || Failure::new(exit::INTERNAL, "the daemon does not say how many links it has", "");
                status["links"].as_u64().ok_or_else(strange)?
            }
            Target::Store(store, runtime, _) => {
                let counts = runtime.block_on(store.counts());
                counts.map_err(|e| Failure::new(exit::IO, e.to_string(), "see that the store can be read"))?.links
            }
        };
        if links == 0 {
            return Ok(());
        }
        let way_out = "--merge adds what is missing, and keeps what works";
        Err(Failure::new(exit::USAGE, format!("the store has {links} links already; nothing was changed"), way_out))
    }
}

/// The input, and its size where that is known.
fn open(file: &Path) -> Result<(Box<dyn BufRead>, Option<u64>), Failure> {
    if file == Path::new("-") {
        return Ok((Box::new(BufReader::new(std::io::stdin())), None));
    }
    let opened = std::fs::File::open(file);
    let opened = opened.map_err(|e| {
        Failure::new(
            exit::IO,
            format!("{} cannot be read: {e}", file.display()),
            "name a file of links, or - for standard input",
        )
    })?;
    let size = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
    Ok((Box::new(BufReader::new(opened)), size))
}

fn open_store(config: &Path) -> Result<Target, Failure> {
    let loaded = load(config)?;
    let store = run::open_store(&loaded.config)?;
    store.switch_events(loaded.config.notify.url.is_some());
    let runtime = small_runtime()?;
    let ticket = runtime.block_on(store.ticket());
    let ticket = ticket.map_err(|e| Failure::new(exit::IO, e.to_string(), "import the file again"))?;
    Ok(Target::Store(Box::new(store), runtime, ticket))
}

fn feed(
    target: &Target,
    input: &mut dyn BufRead,
    size: Option<u64>,
    passphrase: Option<&Secret>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (mut progress, mut bytes) = (Progress::new(), 0);
    let mut next = 1;
    let mut batch = Batch { first: 1, ..Batch::default() };
    let mut source = Source::Plain;
    loop {
        let mut line = Vec::new();
        let read = input.take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|e| Failure::new(exit::IO, format!("line {next} cannot be read: {e}"), ""))?;
        bytes += read as u64;
        tally.lines += usize::from(!line.trim_ascii().is_empty());
        if read as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            skip_rest(input, next)?;
            tally.bad.push(BadLine { line: next, error: "longer than 64 KiB".to_owned() });
            line = b"\n".to_vec();
        }
        if next == 1 {
            source = Source::of(&line, target, passphrase)?;
            // The head of an export is no line to import.
            tally.lines -= usize::from(!matches!(source, Source::Plain));
        }
        batch.links.extend(lines::link_of(&line).map(|link| (next, link)));
        batch.bytes.extend_from_slice(&line);
        next += 1;
        if read == 0 || next - batch.first >= AT_ONCE {
            let before = (tally.bad.len(), tally.left.len());
            send(target, &source, &batch, tally)?;
            tally.note_links(&batch, before);
            batch = Batch { first: next, ..Batch::default() };
            progress.show(|progress| tally.progress(progress, size.map(|size| percent(bytes, size))));
        }
        if read == 0 {
            progress.finish(|progress| tally.progress(progress, size.map(|_| 100)));
            return Ok(());
        }
    }
}

impl Tally {
    /// How far the import is.
    fn progress(&self, progress: &Progress, percent: Option<u64>) -> String {
        let of = percent.map(|percent| format!("{percent} % of the file, ")).unwrap_or_default();
        let rate = progress.rate(self.lines as u64);
        format!("{of}{} lines, {rate}: {} imported, {} bad", self.lines, self.imported, self.bad.len())
    }

    /// Counts a link once, however many of its lines were good. Those of one batch were counted once already.
    fn note_links(&mut self, batch: &Batch, (bad, left): (usize, usize)) {
        let without_effect = self.bad[bad..].iter().chain(&self.left[left..]);
        let without_effect: HashSet<usize> = without_effect.map(|named| named.line).collect();
        let mut again = HashSet::new();
        for (line, link) in batch.links.iter().filter(|(line, _)| !without_effect.contains(line)) {
            let Some(earlier) = self.seen.insert(link.clone(), *line) else { continue };
            self.repeated.push(Repeated { line: earlier, by: *line });
            if earlier < batch.first && again.insert(link) {
                self.imported = self.imported.saturating_sub(1);
            }
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
            Target::Store(store, ..) => {
                let opener = Opener::from_head(head, || store.keyring(), passphrase).map_err(refuse)?;
                Ok(opener.map_or(Source::Plain, Source::Opened))
            }
        }
    }
}

fn send(target: &Target, source: &Source, batch: &Batch, tally: &mut Tally) -> Result<(), Failure> {
    match target {
        Target::Daemon(client) => send_to_daemon(client, source, batch, tally),
        Target::Store(store, runtime, ticket) => {
            let opener = if let Source::Opened(opener) = source { Some(opener) } else { None };
            let mut parsed = lines::parse(&batch.bytes, batch.first, opener);
            tally.bad.append(&mut parsed.bad);
            let trials = if tally.replace { Trials::Replace } else { Trials::Impossible };
            let stored = runtime.block_on(lines::store(store, *ticket, parsed, &trials));
            let stored = stored.map_err(|e| Failure::new(exit::IO, e.to_string(), "see that the disk has space"))?;
            tally.imported += stored.count();
            let named = |l: &LeftLine| BadLine { line: l.line, error: lines::reason_text(l).to_owned() };
            tally.left.extend(stored.left.iter().map(named));
            tally.kept.extend(stored.kept.iter().map(named));
            Ok(())
        }
    }
}

fn send_to_daemon(client: &AdminClient, source: &Source, batch: &Batch, tally: &mut Tally) -> Result<(), Failure> {
    let (body, shift) = match source {
        Source::Plain => (batch.bytes.clone(), batch.first - 1),
        Source::StoreKey(head) if batch.first > 1 => ([head.as_slice(), &batch.bytes].concat(), batch.first - 2),
        Source::StoreKey(_) => (batch.bytes.clone(), 0),
        Source::Opened(opener) => {
            let mut parsed = lines::parse(&batch.bytes, batch.first, Some(opener));
            tally.bad.append(&mut parsed.bad);
            (lines::plain(&parsed, batch.first), batch.first - 1)
        }
    };
    let run = tally.run.as_ref().map_or(String::new(), |run| format!("&run={run}"));
    let path = format!("/v1/import?replace={}{run}", tally.replace);
    let answer = client.call(Method::POST, &path, body)?;
    tally.imported += answer["imported"].as_u64().unwrap_or_default() as usize;
    tally.run = answer["run"].as_str().map(str::to_owned);
    let lists =
        [("left", "reason", &mut tally.left), ("kept", "reason", &mut tally.kept), ("bad", "error", &mut tally.bad)];
    for (list, text, lines) in lists {
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

fn report(tally: &Tally, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let bad: Vec<Value> = tally.bad.iter().map(|b| json!({"line": b.line, "error": b.error})).collect();
        let reasons = |lines: &[BadLine]| -> Vec<Value> {
            lines.iter().map(|l| json!({"line": l.line, "reason": l.error})).collect()
        };
        let (left, kept) = (reasons(&tally.left), reasons(&tally.kept));
        let repeated: Vec<Value> = tally.repeated.iter().map(|r| json!({"line": r.line, "by": r.by})).collect();
        let all = json!({"imported": tally.imported, "left": left, "kept": kept, "bad": bad, "repeated": repeated});
        return line(format_args!("{all:#}"));
    }
    for left in &tally.left {
        note(format_args!("line {}: left as it is: {}", left.line, left.error));
    }
    for kept in &tally.kept {
        note(format_args!("line {}: linked with the token pair that the shop has: {}", kept.line, kept.error));
    }
    for bad in &tally.bad {
        note(format_args!("line {}: {}", bad.line, bad.error));
    }
    for repeated in &tally.repeated {
        note(format_args!("line {}: has the link of line {}, which counts instead", repeated.line, repeated.by));
    }
    let left = match tally.left.len() {
        0 => String::new(),
        count => format!(", {count} left as they are (--replace replaces them all the same)"),
    };
    let kept = match tally.kept.len() {
        0 => String::new(),
        count => format!(", {count} of them with the token pair that their shop has"),
    };
    let repeated = match tally.repeated.len() {
        0 => String::new(),
        count => format!(", {count} lines with a link that a later line has"),
    };
    line(format_args!("{} links imported{kept}{left}, {} bad lines{repeated}", tally.imported, tally.bad.len()))
}
