//! `export`: all links and logins into a file, tokens sealed; through the socket if a daemon runs, otherwise
//! from the store.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use http::Method;
use serde_json::json;

use super::admin::AdminClient;
use super::common::{load, small_runtime};
use super::import::read_passphrase;
use super::{output, run};
use crate::exit::{self, Failure};
use crate::services::export::{self as file, ExportError};

pub(super) fn export(config: &Path, to: &Path, passphrase_file: Option<&Path>) -> Result<(), Failure> {
    let passphrase = passphrase_file.map(read_passphrase).transpose()?;
    let client = AdminClient::find(config)?;
    let lines = if client.is_open() {
        let wish = passphrase.map_or(json!({}), |p| json!({"passphrase": p.expose()}));
        client.fetch(Method::POST, "/v1/export", wish.to_string())?.to_vec()
    } else {
        let store = run::open_store(&load(config)?.config)?;
        let written = small_runtime()?.block_on(async {
            let written = file::write(&store, passphrase).await;
            store.close().await;
            written
        });
        written.map_err(|e| {
            let code = if matches!(e, ExportError::Unavailable(_)) { exit::IO } else { exit::USAGE };
            Failure::new(code, e.to_string(), "")
        })?
    };
    let links = lines.split(|byte| *byte == b'\n').filter(|line| line.windows(9).any(|w| w == b"\"page_id\"")).count();
    save(to, &lines)?;
    output::note(format_args!("{links} links exported; keep the file with the care that its tokens deserve"));
    Ok(())
}

fn save(to: &Path, lines: &[u8]) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        Failure::new(
            exit::IO,
            format!("{} cannot be written: {e}", to.display()),
            "name a new file in a folder with space",
        )
    };
    if to == Path::new("-") {
        // Half a backup is none: here a closed pipe is an error like any other.
        return output::write(lines).map_err(|e| {
            let what = format!("standard output cannot be written: {e}");
            Failure::new(exit::IO, what, "export again; what arrived is not the whole")
        });
    }
    let mut out = std::fs::File::options().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    out.write_all(lines).and_then(|()| out.sync_all()).map_err(failed)
}
