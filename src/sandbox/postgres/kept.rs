//! A server whose folder is kept: it is made once, and started there again later.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{GLANCE, Missing, Options, Postgres, STOP, prepare, programs};

/// The file with the password, beside the data. It is written when the server is complete.
const PASSWORD: &str = "password";

impl Postgres {
    /// Is there a server in this folder?
    pub fn is_in(folder: &Path) -> bool {
        folder.join(PASSWORD).exists()
    }

    /// Are PostgreSQL's programs on this machine?
    ///
    /// # Errors
    /// [`Missing`] names the package to install.
    pub fn installed() -> Result<(), Missing> {
        programs().map(|_| ())
    }

    /// Starts the server of this folder on this port, or makes one. Blocks for some seconds.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn open(folder: &Path, port: u16) -> Result<Postgres, Missing> {
        let options = Options { port: Some(port), ..Options::default() };
        if !Postgres::is_in(folder) {
            return Postgres::make_kept(folder, options);
        }
        let programs = programs()?;
        let (folder, user) = prepare(folder)?;
        let password = fs::read_to_string(folder.join(PASSWORD))?.trim().to_owned();
        let mut kept = Postgres { programs, folder, user, port, password, options, server: None, paused: Vec::new() };
        end_left_behind(&kept.data());
        // Of two lines about the port, the last one counts.
        let mut settings = File::options().append(true).open(kept.data().join("postgresql.conf"))?;
        settings.write_all(format!("port = {port}\n").as_bytes())?;
        kept.start_again()?;
        Ok(kept)
    }

    fn make_kept(folder: &Path, options: Options) -> Result<Postgres, Missing> {
        let data = folder.join("data");
        if data.exists() {
            // Making it was broken off, so nothing is in it.
            fs::remove_dir_all(data)?;
        }
        let made = Postgres::start_with(folder, options)?;
        let mut options = File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(made.folder.join(PASSWORD))?;
        file.write_all(made.password.as_bytes())?;
        Ok(made)
    }

    /// Does the server run?
    pub fn runs(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// Ends the server in order: it ends its connections and writes everything to its files.
    pub fn shut_down(&mut self) {
        self.end(Signal::INT);
    }
}

/// Ends the server that a killed program left behind on this data. Its file names its process.
fn end_left_behind(data: &Path) {
    let named = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = named.lines().next().and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?)) else { return };
    // Another process may have the number by now.
    let is_it = || {
        let called = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        called.split(|byte| *byte == 0).any(|argument| argument == data.as_os_str().as_bytes())
    };
    let until = Instant::now() + STOP;
    while is_it() && Instant::now() < until {
        // Gone already is as good.
        let _ = kill_process(pid, Signal::QUIT);
        std::thread::sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::super::free_port;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_kept_server_has_its_data_and_its_password_when_it_is_opened_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("postgres");
        let Some(mut server) = Postgres::for_test(Postgres::open(&folder, free_port().unwrap())) else { return };
        let run = async |server: &Postgres, statement: &str| {
            let (client, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(statement).await.unwrap();
        };
        run(&server, "create table kept (n int)").await;
        server.shut_down();
        assert!(!server.runs() && Postgres::is_in(&folder));
        drop(server);
        // One that a killed program left behind is ended first.
        std::mem::forget(Postgres::open(&folder, free_port().unwrap()).unwrap());
        let mut server = Postgres::open(&folder, free_port().unwrap()).unwrap();
        assert!(server.runs());
        run(&server, "insert into kept values (1)").await;
        drop(server);
        // Making a server was broken off.
        fs::remove_file(folder.join(PASSWORD)).unwrap();
        let server = Postgres::open(&folder, free_port().unwrap()).unwrap();
        run(&server, "create table kept (n int)").await;
    }
}
