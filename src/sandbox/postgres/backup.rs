//! Backups of a PostgreSQL server: a dump by its own programs, and a copy of its files.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Missing, NAME, Postgres, run};

/// The file of the dump, in the server's folder.
const DUMP: &str = "pagesyncd.dump";
/// The copy of the server's files.
const COPY: &str = "data.copy";

impl Postgres {
    /// Dumps the database of the daemons with `pg_dump`, as its owner.
    ///
    /// # Errors
    /// [`Missing`] holds what the program says.
    pub fn dump(&self) -> Result<(), Missing> {
        let url = format!("--dbname={}", self.url());
        let mut command = self.command("pg_dump");
        run(command.args(["--format=custom", "--no-owner", "--file"]).arg(self.dump_file()).arg(url), "").map(drop)
    }

    /// Empties the database of the daemons, and restores the dump into it with `pg_restore`, as its owner.
    ///
    /// # Errors
    /// [`Missing`] holds what the programs say.
    pub fn restore(&self) -> Result<(), Missing> {
        let url = format!("--dbname={}", self.url_at(self.port, NAME));
        let mut command = self.command("psql");
        run(command.args(["--quiet", "--command=drop table changes, daemons, meta, records"]).arg(&url), "")?;
        let mut command = self.command("pg_restore");
        run(command.args(["--no-owner", "--exit-on-error", "--single-transaction"]).arg(url).arg(self.dump_file()), "")
            .map(drop)
    }

    fn dump_file(&self) -> PathBuf {
        self.folder.join(DUMP)
    }

    /// Copies the files of a server that does not run, as a snapshot of its disk does.
    ///
    /// # Errors
    /// The disk's.
    pub fn copy_files(&self) -> Result<(), Missing> {
        copy(&self.data(), &self.folder.join(COPY))
    }

    /// Puts the copy in place of the files of a server that does not run.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_files_back(&self) -> Result<(), Missing> {
        fs::remove_dir_all(self.data())?;
        copy(&self.folder.join(COPY), &self.data())
    }
}

/// Copies a folder with the owners and the modes of all that is in it.
fn copy(from: &Path, to: &Path) -> Result<(), Missing> {
    run(Command::new("cp").args([OsStr::new("-a"), from.as_os_str(), to.as_os_str()]), "").map(drop)
}
