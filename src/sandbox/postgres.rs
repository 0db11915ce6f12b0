//! A PostgreSQL server on a loopback address, for a store that several daemons share: that of the sandbox, and those of
//! the tests.
//!
//! It needs PostgreSQL's own programs on this machine (Debian's package `postgresql`), and says so where they are missing.
//! PostgreSQL refuses to run as root, so root's servers run as the user `postgres` or `nobody`; for that user the folders
//! above the server's, as far as they are temporary ones, are made passable.

mod backup;
mod kept;

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::random;

mod standby;

/// The user of the daemons, and the name of their database.
pub(super) const NAME: &str = "pagesyncd";
/// A start that takes longer has failed. A crashed server replays its log first.
pub(super) const START: Duration = Duration::from_secs(60);
/// A stop that takes longer is ended by force.
const STOP: Duration = Duration::from_secs(20);
pub(super) const GLANCE: Duration = Duration::from_millis(20);

/// The reason that there is no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub(super) String);

impl Missing {
    /// PostgreSQL's programs are not on this machine.
    pub(crate) fn not_installed() -> Missing {
        Missing("initdb and postgres are not installed; install Debian's package postgresql".to_owned())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        Missing(format!("PostgreSQL cannot be started: {error}"))
    }
}

/// What is special about a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Commits do not wait for the disk: faster, for tests that prove nothing about durability.
    pub fast: bool,
    /// A certificate and its key, as PEM, for a server that offers TLS.
    pub tls: Option<(String, String)>,
    /// The port on the loopback address; a free one when not given.
    pub port: Option<u16>,
    /// Further settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

/// A server. It ends when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    user: Option<User>,
    port: u16,
    password: String,
    options: Options,
    server: Option<Child>,
    paused: Vec<Pid>,
}

/// Whom the server runs as, in place of root.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
}

impl Postgres {
    /// Makes a server in a folder of its own and starts it. Blocks for some seconds.
    ///
    /// # Errors
    /// [`Missing`] names the package to install, or why the server does not start.
    pub fn start(folder: &Path) -> Result<Postgres, Missing> {
        Postgres::start_with(folder, Options::default())
    }

    /// As [`Postgres::start`], and commits do not wait for the disk.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn fast(folder: &Path) -> Result<Postgres, Missing> {
        Postgres::start_with(folder, Options { fast: true, ..Options::default() })
    }

    /// As [`Postgres::start`], with these options.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn start_with(folder: &Path, options: Options) -> Result<Postgres, Missing> {
        let programs = programs()?;
        let (folder, user) = prepare(folder)?;
        let password = hex::encode(random::unique::<12>());
        let port = options.port.map_or_else(free_port, Ok)?;
        let mut made = Postgres { programs, folder, user, port, password, options, server: None, paused: Vec::new() };
        made.make_cluster()?;
        made.start_again()?;
        Ok(made)
    }

    /// The server of a test, or what is in front of it, or `None` where it is missing: the test says so and passes, unless
    /// `PAGESYNCD_POSTGRES_TESTS` is `require`.
    ///
    /// # Panics
    /// When it is missing and required.
    pub fn for_test<T>(made: Result<T, Missing>) -> Option<T> {
        match made {
            Ok(server) => Some(server),
            Err(missing) => {
                let required = std::env::var("PAGESYNCD_POSTGRES_TESTS").is_ok_and(|value| value == "require");
                assert!(!required, "{missing}");
                let _ = writeln!(io::stderr(), "no server, the test is left out: {missing}");
                None
            }
        }
    }

    /// The address of the database, with the password of its owner. A server with a certificate is asked for TLS.
    pub fn url(&self) -> String {
        self.url_at(self.port, NAME)
    }

    /// The address of a database of this server behind another port.
    pub fn url_at(&self, port: u16, database: &str) -> String {
        let mode = if self.options.tls.is_some() { "require" } else { "disable" };
        let password = &self.password;
        format!("postgres://{NAME}:{password}@127.0.0.1:{port}/{database}?sslmode={mode}")
    }

    /// The password of the database's owner.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// The port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server at once, as a crash does: no connection is ended in good order, and the next start replays the
    /// log.
    pub fn stop(&mut self) {
        self.end(Signal::QUIT);
    }

    fn end(&mut self, signal: Signal) {
        self.go_on();
        let Some(mut server) = self.server.take() else { return };
        let pid = pid_of(&server);
        let _ = pid.map(|pid| kill_process(pid, signal));
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            match server.try_wait() {
                Ok(None) => std::thread::sleep(GLANCE),
                _ => return,
            }
        }
        let _ = server.kill();
        let _ = server.wait();
    }

    /// Starts the server again, on the same address, and waits until it answers.
    ///
    /// # Errors
    /// [`Missing`] holds the end of the server's log.
    pub fn start_again(&mut self) -> Result<(), Missing> {
        self.stop();
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        // Ctrl-C at the terminal is for the program that started the server, which then ends it.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.server = Some(command.spawn()?);
        let until = Instant::now() + START;
        while !takes_logins(self.port) {
            let ended = self.server.as_mut().is_some_and(|server| !matches!(server.try_wait(), Ok(None)));
            if ended || Instant::now() > until {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(8).collect();
                self.stop();
                return Err(Missing(format!("PostgreSQL does not start: {}", end.join(" / "))));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Stops every process of the server where it is: connections stay open, and nothing is answered.
    pub fn pause(&mut self) {
        let Some(server) = self.server.as_ref().and_then(pid_of) else { return };
        // Without the first process there are no new ones.
        self.paused.push(server);
        let _ = kill_process(server, Signal::STOP);
        for child in children_of(server) {
            let _ = kill_process(child, Signal::STOP);
            self.paused.push(child);
        }
    }

    /// Lets a server go on that was paused.
    pub fn go_on(&mut self) {
        for pid in self.paused.drain(..).rev() {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// One of PostgreSQL's programs.
    fn command(&self, program: &str) -> Command {
        let mut command = command(&self.programs.join(program), self.user);
        command.current_dir(&self.folder).env("LC_ALL", "C").env_remove("PGDATA");
        command
    }

    /// Makes the files of a new server, and the daemons' user with a database.
    fn make_cluster(&self) -> Result<(), Missing> {
        let mut command = self.command("initdb");
        command.args(["--username=postgres", "--auth=reject", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        run(command.arg("-D").arg(self.data()), "")?;
        self.write_settings()?;
        let (name, password) = (NAME, &self.password);
        // A single-user server takes a statement a line.
        let statements = format!(
            "alter role postgres password '{password}'\n\
             create role {name} login password '{password}'\n\
             create database {name} owner {name} encoding 'UTF8' template template0\n"
        );
        let mut command = self.command("postgres");
        run(command.arg("--single").arg("-D").arg(self.data()).arg("postgres"), &statements).map(drop)
    }

    fn write_settings(&self) -> Result<(), Missing> {
        let data = self.data();
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {}", self.port),
            // A long path does not fit into a socket's address, and nothing needs a socket.
            "unix_socket_directories = ''".to_owned(),
            "password_encryption = 'scram-sha-256'".to_owned(),
            "max_connections = 60".to_owned(),
        ];
        if self.options.fast {
            lines.extend(["fsync = off", "full_page_writes = off"].map(str::to_owned));
        }
        if let Some((certificate, key)) = &self.options.tls {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                let path = data.join(name);
                fs::write(&path, text)?;
                fs::set_permissions(&path, Permissions::from_mode(0o600))?;
                if let Some(user) = self.user {
                    chown(&path, Some(user.uid), Some(user.gid))?;
                }
            }
            lines.push("ssl = on".to_owned());
        }
        lines.extend(self.options.settings.iter().map(|(name, value)| format!("{name} = '{value}'")));
        let mut file = File::options().append(true).open(data.join("postgresql.conf"))?;
        file.write_all((lines.join("\n") + "\n").as_bytes())?;
        let logins = "host all,replication all 127.0.0.1/32 scram-sha-256\n";
        Ok(fs::write(data.join("pg_hba.conf"), logins)?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program, run as this user.
pub(super) fn command(program: &Path, user: Option<User>) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
    command.arg("--clear-groups").arg(program);
    command
}

/// Does a server on this port take logins? It asks for a password then, in an answer that begins with `R`.
pub(super) fn takes_logins(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let asked = || -> io::Result<u8> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        // Version 3.0 of the protocol, and names with values, each ended by a zero.
        let mut message = 196_608_u32.to_be_bytes().to_vec();
        for word in ["user", NAME, "database", NAME, ""] {
            message.extend_from_slice(word.as_bytes());
            message.push(0);
        }
        let length = u32::try_from(message.len() + 4).unwrap_or_default();
        stream.write_all(&[&length.to_be_bytes()[..], &message].concat())?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(first[0])
    };
    asked().is_ok_and(|first| first == b'R')
}

/// Makes a folder of a server; root's belongs to the user that the server runs as.
pub(super) fn prepare(folder: &Path) -> io::Result<(PathBuf, Option<User>)> {
    let folder = std::path::absolute(folder)?;
    fs::create_dir_all(&folder)?;
    let user = if rustix::process::geteuid().is_root() { Some(lesser_user()?) } else { None };
    if let Some(user) = user {
        make_passable(&folder)?;
        chown(&folder, Some(user.uid), Some(user.gid))?;
    }
    Ok((folder, user))
}

/// The folder with PostgreSQL's programs; of several releases, the newest.
fn programs() -> Result<PathBuf, Missing> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    packaged.sort_by_key(|(release, _)| std::cmp::Reverse(*release));
    let mut folders = std::env::split_paths(&on_path).chain(packaged.into_iter().map(|(_, path)| path));
    let has_all = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file());
    let found = folders.find(has_all).ok_or_else(Missing::not_installed)?;
    // The others lie beside them, also where these two are links.
    let initdb = fs::canonicalize(found.join("initdb"))?;
    Ok(initdb.parent().map_or(found, Path::to_owned))
}

/// The user `postgres`, or else `nobody`.
fn lesser_user() -> io::Result<User> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let mut fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let found = fields.find(|fields| fields.first() == Some(&name))?;
        Some(User { uid: found.get(2)?.parse().ok()?, gid: found.get(3)?.parse().ok()? })
    };
    let none = || io::Error::new(io::ErrorKind::NotFound, "there is neither a user postgres nor nobody");
    find("postgres").or_else(|| find("nobody")).ok_or_else(none)
}

/// Lets every user pass through the folders above this one that lie in the temporary folder and are root's own.
fn make_passable(folder: &Path) -> io::Result<()> {
    let temporary = std::env::temp_dir();
    for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&temporary) && *above != temporary) {
        let found = fs::metadata(above)?;
        if found.uid() == 0 && found.mode() & 0o001 == 0 {
            fs::set_permissions(above, Permissions::from_mode(found.mode() | 0o111))?;
        }
    }
    Ok(())
}

pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Runs a program to its end, with this input. Returns its output.
fn run(command: &mut Command, input: &str) -> Result<String, Missing> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A single-user server reports a failed statement and ends well.
    if output.status.success() && !said.contains("ERROR:") {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Missing(format!("PostgreSQL cannot be set up: {}", said.trim())))
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// The processes that this one started.
fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let pids = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name in parentheses stand the state and the parent.
        let of = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        (of == parent).then(|| Pid::from_raw(pid)).flatten()
    });
    pids.collect()
}

#[cfg(test)]
mod tests {
    use tokio_postgres::{Client, NoTls};

    use super::*;

    async fn connected(server: &Postgres) -> Client {
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn count(client: &Client) -> i64 {
        client.query_one("select count(*) from t", &[]).await.unwrap().get(0)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_keeps_its_data_over_a_crash_and_a_pause() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut server) = Postgres::for_test(Postgres::start(&dir.path().join("below/postgres"))) else { return };
        let client = connected(&server).await;
        client.batch_execute("create table t (n int); insert into t values (1)").await.unwrap();
        server.stop();
        assert!(client.simple_query("select 1").await.is_err());
        assert!(tokio_postgres::connect(&server.url(), NoTls).await.is_err());
        server.start_again().unwrap();
        let client = connected(&server).await;
        assert_eq!(count(&client).await, 1);

        server.pause();
        let answer = tokio::spawn(async move { count(&client).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!answer.is_finished());
        server.go_on();
        assert_eq!(answer.await.unwrap(), 1);
        assert!(connected(&server).await.batch_execute("create role other").await.is_err(), "its user is no superuser");
    }
}
