//! A standby of a PostgreSQL server: it follows the server, and takes its part when it is promoted.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Instant;

use super::{GLANCE, Missing, NAME, Postgres, START, free_port, pid_of, prepare, run};
use rustix::process::{Signal, kill_process};

/// The name under which a standby is known to its primary.
const STANDBY: &str = "standby";

impl Postgres {
    /// Makes a standby of this server in a folder of its own, and starts it. Commits of this server do not wait for it.
    /// Blocks for some seconds.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn standby(&self, folder: &Path) -> Result<Postgres, Missing> {
        let (folder, user) = prepare(folder)?;
        let mut made = Postgres {
            programs: self.programs.clone(),
            folder,
            user,
            port: free_port()?,
            password: self.password.clone(),
            options: self.options.clone(),
            server: None,
            paused: Vec::new(),
        };
        made.copy(self)?;
        made.start_again()?;
        Ok(made)
    }

    fn copy(&self, primary: &Postgres) -> Result<(), Missing> {
        let (data, password, port) = (self.data(), &self.password, primary.port);
        let mut command = self.command("pg_basebackup");
        command.args(["--host=127.0.0.1", "--username=postgres", "--no-password", "--checkpoint=fast", "--no-sync"]);
        command.env("PGPASSWORD", password).arg(format!("--port={port}")).arg("-D").arg(&data);
        run(&mut command, "")?;
        let settings = format!(
            "port = {}\nprimary_conninfo = 'host=127.0.0.1 port={port} user=postgres password={password} \
             application_name={STANDBY}'\n",
            self.port
        );
        File::options().append(true).open(data.join("postgresql.conf"))?.write_all(settings.as_bytes())?;
        let signal = data.join("standby.signal");
        fs::write(&signal, "")?;
        if let Some(user) = self.user {
            chown(&signal, Some(user.uid), Some(user.gid))?;
        }
        Ok(())
    }

    /// From here on each commit of this server waits until its standby has it, too. Blocks until the standby takes part.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn wait_for_standby(&self) -> Result<(), Missing> {
        let setting = format!("synchronous_standby_names = '{STANDBY}'\n");
        let mut file = File::options().append(true).open(self.data().join("postgresql.conf"))?;
        file.write_all(setting.as_bytes())?;
        if let Some(server) = self.server.as_ref().and_then(pid_of) {
            kill_process(server, Signal::HUP).map_err(std::io::Error::from)?;
        }
        self.until("select count(*) > 0 from pg_stat_replication where state = 'streaming' and sync_state = 'sync'")
    }

    /// Blocks until the standby has everything that is committed by now.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn until_followed(&self) -> Result<(), Missing> {
        let written = self.ask(NAME, "select pg_current_wal_lsn()")?;
        self.until(&format!("select count(*) > 0 from pg_stat_replication where flush_lsn >= '{written}'"))
    }

    /// Takes the part of the server that this one is a standby of, which must have ended. Blocks until it takes writes.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn promote(&self) -> Result<(), Missing> {
        let mut command = self.command("pg_ctl");
        run(command.args(["promote", "--wait", "--silent", "-D"]).arg(self.data()), "").map(drop)
    }

    /// Carries out statements in a database of this server as its superuser, and returns the rows that they answer.
    ///
    /// # Errors
    /// [`Missing`] holds what the server says.
    pub fn ask(&self, database: &str, statements: &str) -> Result<String, Missing> {
        let mut command = self.command("psql");
        command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]);
        command.args(["--host=127.0.0.1", "--username=postgres", "--no-password"]);
        command
            .env("PGPASSWORD", &self.password)
            .arg(format!("--port={}", self.port))
            .arg(format!("--dbname={database}"));
        Ok(run(&mut command, statements)?.trim().to_owned())
    }

    /// Blocks until the server answers this question with yes.
    fn until(&self, question: &str) -> Result<(), Missing> {
        let until = Instant::now() + START;
        while self.ask(NAME, question)? != "t" {
            if Instant::now() > until {
                return Err(Missing(format!("this did not come to hold: {question}")));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_has_what_was_committed_before_it_lost_sight_and_goes_on_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut primary) = Postgres::for_test(Postgres::fast(&dir.path().join("primary"))) else { return };
        let mut standby = primary.standby(&dir.path().join("standby")).unwrap();
        primary.wait_for_standby().unwrap();
        primary.ask(NAME, "create table t (n int); insert into t values (1)").unwrap();
        primary.until_followed().unwrap();
        standby.stop();
        primary.ask(NAME, "set synchronous_commit = local; insert into t values (2)").unwrap();
        primary.stop();
        standby.start_again().unwrap();
        assert!(standby.ask(NAME, "insert into t values (3)").is_err(), "it takes no writes yet");
        standby.promote().unwrap();
        assert_eq!(
            standby.ask(NAME, "insert into t values (3); select string_agg(n::text, ' ') from t").unwrap(),
            "1 3"
        );
        assert_eq!(standby.ask(NAME, "select left(pg_walfile_name(pg_current_wal_lsn()), 8)").unwrap(), "00000002");
    }
}
