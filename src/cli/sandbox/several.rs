//! `sandbox --daemons N`: the database that several daemons share, their setups, and the front before them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::exit::{self, Failure};
use crate::sandbox::DaemonSetup;
use crate::sandbox::fleet::{Fleet, Member};
use crate::sandbox::front::Front;
use crate::sandbox::postgres::{Missing, Postgres};

/// The folder of the database's server.
const SERVER: &str = "postgres";
/// The daemons' ports follow this one where the system is to choose that of the front.
const DEFAULT_PORT: u16 = 5000;
/// The folder of one daemon's store.
const STORE: &str = "store";

/// Refuses a folder that was kept with the other kind of store.
pub(super) fn conflict(dir: &Path, several: bool) -> Result<(), Failure> {
    let refused = |kept: &str, way_out: &str| {
        let what = format!("{} was kept with {kept}; nothing in it was changed", dir.display());
        Err(Failure::new(exit::USAGE, what, way_out))
    };
    match several {
        true if dir.join(STORE).exists() => {
            refused("one daemon, whose store is a folder", "leave --daemons out, or name another folder with --dir")
        }
        false if Postgres::is_in(&dir.join(SERVER)) => refused(
            "several daemons, whose store is a database",
            "name their number with --daemons, or name another folder with --dir",
        ),
        _ => Ok(()),
    }
}

fn no_server(missing: &Missing) -> Failure {
    let what = format!("several daemons need a PostgreSQL: {missing}");
    Failure::new(exit::UNAVAILABLE, what, "without --daemons there is one daemon, which needs none")
}

/// Refuses a machine without PostgreSQL before anything is made.
pub(super) fn needs() -> Result<(), Failure> {
    Postgres::installed().map_err(|missing| no_server(&missing))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn no_port(error: &std::io::Error) -> Failure {
    Failure::new(exit::TRY_AGAIN, format!("there is no free port for the daemons: {error}"), "")
}

/// The parts that several daemons need, as far as they were started.
#[derive(Default)]
pub(super) struct Several {
    /// The server while it is started.
    starting: Option<JoinHandle<Result<Postgres, Missing>>>,
    /// And until the daemons have it.
    server: Option<Postgres>,
    front: Option<Front>,
    fleet: Option<Arc<Fleet>>,
}

impl Several {
    /// Starts the database in `dir` and the front at `http`: the setups of so many daemons by their names.
    pub(super) async fn prepare(
        &mut self,
        dir: &Path,
        http: SocketAddr,
        daemons: u8,
    ) -> Result<Vec<(String, DaemonSetup)>, Failure> {
        let names: Vec<String> = (1..=daemons).map(|number| format!("daemon-{number}")).collect();
        // Two for each daemon, and one for the database.
        let mut public = free_ports(http.port(), 2 * names.len() + 1).map_err(|e| no_port(&e))?;
        let mut admin = public.split_off(names.len());
        let port = admin.pop().unwrap_or_default();
        let url = self.start_server(dir.join(SERVER), port).await?;
        let behind: Vec<(String, SocketAddr)> = names.into_iter().zip(public.into_iter().map(local)).collect();
        let front = Front::start(http, &behind).await.map_err(|e| {
            let what = format!("the front of the daemons cannot listen on {http}: {e}");
            Failure::new(exit::TRY_AGAIN, what, format!("choose a free address with --http instead of {http}"))
        })?;
        let front = self.front.insert(front);
        let setup = |((name, listen), admin): ((String, SocketAddr), u16)| {
            let mut setup = DaemonSetup::new(listen.to_string(), &dir.join(&name));
            setup.public_url = format!("http://{}", front.addr);
            setup.admin_listen = local(admin).to_string();
            setup.shared_store = Some((url.clone(), name.clone()));
            (name, setup)
        };
        Ok(behind.into_iter().zip(admin).map(setup).collect())
    }

    /// Starts the server; the address of its database.
    async fn start_server(&mut self, folder: PathBuf, port: u16) -> Result<String, Failure> {
        // A signal that comes meanwhile leaves the task here, so that its server is ended as well.
        let starting = self.starting.insert(tokio::task::spawn_blocking(move || Postgres::open(&folder, port)));
        let started = starting.await;
        self.starting = None;
        let failed = |e| Failure::new(exit::INTERNAL, format!("PostgreSQL cannot be started: {e}"), "");
        let started = started.map_err(failed)?.map_err(|missing| no_server(&missing))?;
        Ok(self.server.insert(started).url())
    }

    /// The daemons over the server that was started.
    pub(super) fn join(&mut self, members: Vec<Member>) -> Result<Arc<Fleet>, Failure> {
        let server = self.server.take().ok_or_else(|| Failure::new(exit::INTERNAL, "there is no server", ""))?;
        Ok(self.fleet.insert(Fleet::new(members, server)).clone())
    }

    /// The daemons, where there are several.
    pub(super) fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_deref()
    }

    /// No request comes to the daemons any more.
    pub(super) async fn stop_front(&self) {
        if let Some(front) = &self.front {
            front.stop().await;
        }
    }

    /// Ends the server, also one that is still being started.
    pub(super) async fn stop_database(&mut self) {
        if let Some(starting) = self.starting.take() {
            // One that did not start is none to end. One that did ends when it is dropped.
            drop(starting.await);
        }
        self.server = None;
        if let Some(fleet) = &self.fleet {
            fleet.shut_down_database().await;
        }
    }
}

/// Free ports on the loopback address: those that follow this one, so that they are easy to remember. The system gives such
/// ports to no outgoing connection, so that one is still free when its daemon is started again.
fn free_ports(after: u16, count: usize) -> std::io::Result<Vec<u16>> {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let after = if after == 0 { DEFAULT_PORT } else { after };
    let free: Vec<u16> = (after..=u16::MAX).skip(1).filter(is_free).take(count).collect();
    match free.len() == count {
        true => Ok(free),
        false => Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, format!("none above {after}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_postgresql_is_told_what_to_install() {
        let missing = Missing::not_installed();
        let failure = no_server(&missing);
        assert_eq!(failure.code, exit::UNAVAILABLE);
        assert!(failure.what.contains("Debian's package postgresql"), "{}", failure.what);
        assert!(failure.way_out.contains("--daemons"), "{}", failure.way_out);
    }

    #[test]
    fn a_folder_of_the_other_kind_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        for several in [false, true] {
            conflict(dir, several).unwrap();
        }
        std::fs::create_dir(dir.join(STORE)).unwrap();
        conflict(dir, false).unwrap();
        let refused = conflict(dir, true).unwrap_err();
        assert!(refused.code == exit::USAGE && refused.what.contains("one daemon"), "{refused:?}");
        std::fs::remove_dir(dir.join(STORE)).unwrap();
        std::fs::create_dir(dir.join(SERVER)).unwrap();
        std::fs::write(dir.join(SERVER).join("password"), "x").unwrap();
        conflict(dir, true).unwrap();
        let refused = conflict(dir, false).unwrap_err();
        assert!(refused.way_out.contains("--daemons"), "{refused:?}");
    }
}
