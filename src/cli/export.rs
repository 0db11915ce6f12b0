//! `export`: all links and logins into a file, tokens sealed; through the socket if a daemon runs, otherwise
//! from the store. Lines are written as they come, and a file that does not become whole is removed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::admin::{AdminClient, Arriving, broke_off};
use super::common::{load, small_runtime};
use super::import::read_passphrase;
use super::progress::{Progress, percent};
use super::{output, run};
use crate::core::model::Secret;
use crate::exit::{self, Failure};
use crate::services::export::{Export, ExportError};
use crate::store::Store;

const BUFFER: usize = 64 << 10;

pub(super) fn export(config: &Path, to: &Path, passphrase_file: Option<&Path>) -> Result<(), Failure> {
    let passphrase = passphrase_file.map(read_passphrase).transpose()?;
    let links = with_lines(config, passphrase, |lines, total| save(to, total, lines))?;
    output::note(format_args!("{links} links exported; keep the file with the care that its tokens deserve"));
    Ok(())
}

/// The whole export in memory, and how many lines are links.
pub(super) fn in_memory(config: &Path, passphrase: &Secret) -> Result<(Zeroizing<Vec<u8>>, usize), Failure> {
    let mut whole = Zeroizing::new(Vec::new());
    let failed = |e: io::Error| Failure::new(exit::INTERNAL, format!("the export cannot be kept: {e}"), "");
    let links = with_lines(config, Some(passphrase.clone()), |lines, total| {
        copy(lines, &mut *whole, total, &mut Progress::new(), failed)
    })?;
    Ok((whole, links))
}

/// Hands over the lines of the running daemon or, where none runs, of the store, and how many links there are, where known.
fn with_lines(
    config: &Path,
    passphrase: Option<Secret>,
    take: impl FnOnce(Lines, Option<u64>) -> Result<usize, Failure>,
) -> Result<usize, Failure> {
    let client = AdminClient::find(config)?;
    if client.is_open() {
        let wish = passphrase.map_or(json!({}), |p| json!({"passphrase": p.expose()}));
        let total = client.call(Method::GET, "/v1/status", "").ok().and_then(|status| status["links"].as_u64());
        let arriving = client.read(Method::POST, "/v1/export", wish.to_string())?;
        return take(from_daemon(arriving), total);
    }
    let store = run::open_store(&load(config)?.config)?;
    from_store(&store, passphrase, take)
}

/// Lines, one or more at a time; empty at the end.
type Lines<'a> = Box<dyn FnMut() -> Result<Vec<u8>, Failure> + 'a>;

fn from_daemon(arriving: Arriving) -> Lines<'static> {
    let mut arriving = BufReader::with_capacity(BUFFER, arriving);
    Box::new(move || {
        let mut line = Vec::new();
        arriving.read_until(b'\n', &mut line).map_err(|error| broke_off(&error))?;
        Ok(line)
    })
}

fn from_store(
    store: &Store,
    passphrase: Option<Secret>,
    take: impl FnOnce(Lines, Option<u64>) -> Result<usize, Failure>,
) -> Result<usize, Failure> {
    let failed = |e: ExportError| {
        let code = if matches!(e, ExportError::Unavailable(_)) { exit::IO } else { exit::USAGE };
        Failure::new(code, e.to_string(), "")
    };
    let runtime = small_runtime()?;
    let written = runtime.block_on(Export::begin(store, passphrase)).map_err(failed).and_then(|mut export| {
        let mut next = || runtime.block_on(export.next()).map_err(failed);
        let lines = Box::new(move || {
            loop {
                match next()? {
                    Some(piece) if piece.is_empty() => {}
                    piece => return Ok(piece.unwrap_or_default()),
                }
            }
        });
        let total = runtime.block_on(store.counts()).ok().map(|counts| counts.links);
        take(lines, total)
    });
    runtime.block_on(store.close());
    written
}

/// Writes the lines, of which so many are expected to be links. Returns how many are.
fn save(to: &Path, total: Option<u64>, lines: Lines) -> Result<usize, Failure> {
    if to == Path::new("-") {
        // Half a backup is none: here a closed pipe is an error like any other.
        let failed = |e: io::Error| {
            let what = format!("standard output cannot be written: {e}");
            Failure::new(exit::IO, what, "export again; what arrived is not the whole")
        };
        let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
        let mut progress = if io::stdout().is_terminal() { Progress::hidden() } else { Progress::new() };
        let links = copy(lines, &mut out, total, &mut progress, failed)?;
        return out.flush().map(|()| links).map_err(failed);
    }
    let failed = |e: io::Error| {
        Failure::new(
            exit::IO,
            format!("{} cannot be written: {e}", to.display()),
            "name a new file in a folder with space",
        )
    };
    if to.exists() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    // Under the name that was asked for there is the whole or nothing, also when this process is killed.
    let part = part_of(to);
    let file = File::options().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER, file);
    let copied = copy(lines, &mut out, total, &mut Progress::new(), failed).and_then(|links| {
        let synced = out.flush().and_then(|()| out.get_ref().sync_all());
        synced.and_then(|()| publish(&part, to)).map(|()| links).map_err(failed)
    });
    // Whatever came of it. If it cannot be removed, that changes nothing about the export.
    let _ = std::fs::remove_file(&part);
    copied
}

/// Gives the whole file its name. Unlike a rename, a link replaces no file that was made meanwhile; some file systems have
/// none.
fn publish(part: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(part, to) {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            std::fs::rename(part, to)
        }
        linked => linked,
    }
}

/// Where an export lies while it is written: beside its file, under a name of its own.
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    to.with_file_name(name)
}

fn copy(
    mut lines: Lines,
    out: &mut impl Write,
    total: Option<u64>,
    progress: &mut Progress,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<usize, Failure> {
    let mut links = 0;
    let say = |links: usize, progress: &Progress| {
        let (done, rate) = (links as u64, progress.rate(links as u64));
        let of = total.map(|total| format!(" of {total} ({} %)", percent(done, total))).unwrap_or_default();
        format!("{done}{of} links, {rate}")
    };
    loop {
        let some = lines().inspect_err(|_| progress.end())?;
        if some.is_empty() {
            progress.finish(|progress| say(links, progress));
            return Ok(links);
        }
        progress.show(|progress| say(links, progress));
        links += some.split(|byte| *byte == b'\n').filter(|line| is_link(line)).count();
        out.write_all(&some).map_err(&failed)?;
    }
}

/// Is this the line of a link, of a page or of a shop? In a name the quotes would be escaped.
fn is_link(line: &[u8]) -> bool {
    let has = |key: &[u8]| line.windows(key.len()).any(|part| part == key);
    has(b"\"page_id\":") || has(b"\"shop\":")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn lines(of: &[&str], then: Option<Failure>) -> Lines<'static> {
        let mut rest: VecDeque<Vec<u8>> = of.iter().map(|line| line.as_bytes().to_vec()).collect();
        Box::new(move || match (rest.pop_front(), &then) {
            (Some(some), _) => Ok(some),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Ok(Vec::new()),
        })
    }

    #[test]
    fn half_an_export_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("links");
        let some = ["{\"schema\":1}\n", "{\"page_id\":\"1\"}\n{\"shop\":\"2\"}\n", "{\"account\":\"shop\"}\n"];
        let cut = Failure::new(exit::UNAVAILABLE, "cut", "");
        assert_eq!(save(&to, None, lines(&some, Some(cut.clone()))), Err(cut));
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files(), 0);
        assert_eq!((save(&to, None, lines(&some, None)), files()), (Ok(2), 1));
        assert_eq!(std::fs::read_to_string(&to).unwrap(), some.concat());
        // One that stands is neither replaced nor removed.
        assert!(save(&to, None, lines(&some[..1], None)).is_err());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), some.concat());
    }
}
