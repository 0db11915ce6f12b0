//! PgBouncer in front of a PostgreSQL server, in transaction mode: each transaction of a session may meet another
//! connection of the server, and what a session sets may be lost or met by others.
//!
//! It needs the program `pgbouncer` on this machine (Debian's package of that name), and says so where it is missing.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use super::postgres::{GLANCE, Missing, NAME, Postgres, START, command, free_port, prepare, takes_logins};

/// A pooler. It ends when this is dropped.
#[derive(Debug)]
pub struct Pooler {
    pooler: Child,
    url: String,
}

impl Pooler {
    /// Starts a pooler in front of a server, with so many connections to it, in a folder of its own.
    ///
    /// # Errors
    /// [`Missing`] names the package to install, or why the pooler does not start.
    pub fn start(folder: &Path, server: &Postgres, connections: usize) -> Result<Pooler, Missing> {
        let program = program()?;
        let (folder, user) = prepare(folder)?;
        let (port, of_server, password) = (free_port()?, server.port(), server.password());
        let users = folder.join("users");
        let settings = format!(
            "[databases]\n{NAME} = host=127.0.0.1 port={of_server} dbname={NAME}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {}\npool_mode = transaction\ndefault_pool_size = {connections}\n\
             ignore_startup_parameters = extra_float_digits\nserver_login_retry = 1\n",
            users.display()
        );
        let ini = folder.join("pgbouncer.ini");
        for (path, text) in [(&ini, settings), (&users, format!("\"{NAME}\" \"{password}\"\n"))] {
            let mut file = File::create(path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            if let Some((uid, gid)) = user.map(|user| (user.uid, user.gid)) {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        let log = File::create(folder.join("log"))?;
        let mut command = command(&program, user);
        command.arg(&ini).current_dir(&folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let url = format!("postgres://{NAME}:{password}@127.0.0.1:{port}/{NAME}?sslmode=disable");
        let mut pooler = Pooler { pooler: command.spawn()?, url };
        let until = Instant::now() + START;
        while !takes_logins(port) {
            if !matches!(pooler.pooler.try_wait(), Ok(None)) || Instant::now() > until {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                return Err(Missing(format!("PgBouncer does not start: {}", log.trim())));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(pooler)
    }

    /// The address of the database behind the pooler.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.pooler.kill();
        let _ = self.pooler.wait();
    }
}

fn program() -> Result<PathBuf, Missing> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&on_path).chain(["/usr/sbin".into()]);
    let found = folders.find_map(|folder| Some(folder.join("pgbouncer")).filter(|path| path.is_file()));
    found.ok_or_else(|| Missing("pgbouncer is not installed; install Debian's package pgbouncer".to_owned()))
}
