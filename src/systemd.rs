//! What the daemon says to systemd, and the listening socket it may get from it. Without systemd all of it is silent:
//! no socket to notify means nothing to say, and no socket passed means `None`.
//!
//! The order matters to systemd. `ready` is said once everything is up, and again after each `reloading`, a refused
//! reload included: `systemctl reload` waits for it where the unit is of `Type=notify-reload`. `stopping` is said when
//! draining begins. A status is one line of text; line breaks are taken out of it, because on this channel a line
//! break begins another message, and a status may carry words from outside.
//!
//! # The public socket outlives the process
//!
//! A daemon that binds its own public socket hands systemd a duplicate of it ([`keep_socket`]), and systemd passes it
//! to the next process of the unit (`FileDescriptorStoreMax=`). So callers wait in the kernel's queue during a restart
//! and after a crash, where they would be refused otherwise. systemd closes its duplicate when the service stops for
//! good. A process that cannot start gives it up itself ([`drop_kept_socket`]), since callers must not wait for a
//! daemon that fails again and again.
//!
//! The alternative is a socket unit, which is shipped too, for ports below 1024. It is not the default, for three
//! reasons: the address would stand in the unit and not in `http.listen`; a caller would start a service that an
//! operator stopped, and would start one that ended for a broken configuration over and over; and systemd refuses to
//! start a socket beside its running service.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Longest status sent, in bytes; `systemctl status` shows one line.
const MAX_STATUS: usize = 600;
/// The name of the kept public socket. A socket unit's socket has the unit's name.
const KEPT: &str = "public";

/// Everything is up, or up again after a reload; and what there is to say of it.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A reload begins. [`ready`] ends it, however it went.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        // Without the time systemd takes the message for a broken one and ends the service.
        Err(error) => {
            tracing::warn!(
                %error,
                "systemd: the monotonic clock cannot be read ({error}), going on without a notice of the reload"
            )
        }
    }
}

/// Draining begins.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

/// The start takes longer: systemd waits for [`ready`] for this time from now on, beyond the unit's `TimeoutStartSec=`.
pub fn extend_start(by: Duration) {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// What `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// How often to [`ping`]: half of the unit's `WatchdogSec=`. `None` when the unit has no watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}

/// The machine's monotonic clock in microseconds, which begins anew with each boot.
pub fn monotonic_clock() -> Option<u64> {
    match NotifyState::monotonic_usec_now() {
        Ok(NotifyState::MonotonicUsec(now)) => u64::try_from(now).ok(),
        _ => None,
    }
}

/// The daemon is alive. To be sent by whoever events when it is not.
pub fn ping() {
    send(&[NotifyState::Watchdog]);
}

/// The public sockets that systemd passed, ready for an async runtime.
#[derive(Debug, Default)]
pub struct Passed {
    /// The socket of pagesyncd.socket.
    pub unit: Option<TcpListener>,
    /// The socket of the process before this one.
    pub kept: Option<TcpListener>,
}

/// Takes the sockets that systemd passed; none when they were taken already.
///
/// Call it before any thread is started: the variables that describe the sockets are removed from the environment, so
/// that no child process takes them for its own.
///
/// # Errors
/// A socket is not a TCP socket, or the socket unit has more than one: the unit is wrong, and the daemon would listen
/// somewhere else than the operator meant.
pub fn take_sockets() -> io::Result<Passed> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut descriptors = ListenFd::from_env();
    let mut passed = Passed::default();
    for index in 0..descriptors.len() {
        let Some(listener) = descriptors.take_tcp_listener(index)? else { continue };
        listener.set_nonblocking(true)?;
        let place = if names.get(index) == Some(&KEPT) { &mut passed.kept } else { &mut passed.unit };
        if place.replace(listener).is_some() {
            let message = "systemd passed several sockets; leave one ListenStream= in pagesyncd.socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    }
    Ok(passed)
}

/// Gives systemd a duplicate of the public socket for the next process, in place of an earlier one.
pub fn keep_socket(socket: &TcpListener) {
    drop_kept_socket();
    let states = [NotifyState::FdStore, NotifyState::FdName(KEPT)];
    if let Err(error) = sd_notify::notify_with_fds(&states, &[socket.as_fd()]) {
        tracing::warn!(
            %error,
            "systemd: cannot hand over the public socket ({error}), callers are refused during the next restart"
        );
    }
}

/// Has systemd close its duplicate of the public socket.
pub fn drop_kept_socket() {
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(KEPT)]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd: cannot be notified ({error}), going on without; check NOTIFY_SOCKET");
    }
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=MAX_STATUS.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or(0));
    line
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::mem::MaybeUninit;
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    const CHILD: &str = "PAGESYNCD_TEST_CHILD";

    /// This very test once more, in a process with an environment of its own.
    fn again(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").stdout(Stdio::null());
        command
    }

    #[test]
    fn systemd_hears_each_word() {
        if std::env::var_os(CHILD).is_some() {
            assert_eq!(watchdog_interval(), Some(Duration::from_secs(15)));
            extend_start(Duration::from_secs(90));
            ready("serving\nMAINPID=1");
            reloading();
            status("é".repeat(400).as_str());
            ping();
            stopping("draining");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut child = again("systemd::tests::systemd_hears_each_word");
        child.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "30000000");
        assert!(child.status().unwrap().success());
        let hear = || {
            let mut bytes = [0; 2048];
            let length = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        assert_eq!(hear(), "EXTEND_TIMEOUT_USEC=90000000\n");
        assert_eq!(hear(), "READY=1\nSTATUS=serving MAINPID=1\n");
        let reloading = hear();
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(time.parse::<u64>().unwrap() > 0);
        assert_eq!(hear(), format!("STATUS={}\n", "é".repeat(300)));
        assert_eq!(hear(), "WATCHDOG=1\n");
        assert_eq!(hear(), "STOPPING=1\nSTATUS=draining\n");
    }

    /// The next message to `socket`, and the descriptor that came with it.
    fn receive(socket: &UnixDatagram) -> (String, Option<OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 2048];
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let length = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        let rights = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        (String::from_utf8(bytes[..length].to_vec()).unwrap(), rights)
    }

    #[test]
    fn a_kept_socket_holds_callers_for_the_next_process() {
        let name = "systemd::tests::a_kept_socket_holds_callers_for_the_next_process";
        match std::env::var(CHILD).as_deref() {
            Ok("first") => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                keep_socket(&listener);
                return;
            }
            Ok(_) => {
                let passed = take_sockets().unwrap();
                assert!(passed.unit.is_none());
                let listener = passed.kept.unwrap();
                listener.set_nonblocking(false).unwrap();
                listener.accept().unwrap().0.write_all(b"served").unwrap();
                drop_kept_socket();
                return;
            }
            Err(_) => {}
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let child = |which: &str| {
            let mut child = again(name);
            child.env(CHILD, which).env("NOTIFY_SOCKET", dir.path().join("notify"));
            child
        };
        assert!(child("first").status().unwrap().success());
        assert_eq!(receive(&socket).0, "FDSTOREREMOVE=1\nFDNAME=public\n");
        let (message, kept) = receive(&socket);
        assert_eq!(message, "FDSTORE=1\nFDNAME=public\n");
        let kept = TcpListener::from(kept.unwrap());
        // The process is gone, and a caller is not refused.
        let mut caller = TcpStream::connect(kept.local_addr().unwrap()).unwrap();
        let mut second = child("second");
        second.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0").env("LISTEN_FDNAMES", "public");
        assert!(second.stdin(OwnedFd::from(kept)).status().unwrap().success());
        let mut answer = String::new();
        caller.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "served");
        assert_eq!(receive(&socket).0, "FDSTOREREMOVE=1\nFDNAME=public\n");
    }

    #[test]
    fn a_passed_socket_is_taken_once() {
        if std::env::var_os(CHILD).is_some() {
            let listener = take_sockets().unwrap().unit.unwrap();
            assert!(take_sockets().unwrap().unit.is_none());
            listener.set_nonblocking(false).unwrap();
            listener.accept().unwrap().0.write_all(b"here").unwrap();
            return;
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has nothing to pass.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut child = again("systemd::tests::a_passed_socket_is_taken_once");
            child.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0").env("LISTEN_FDNAMES", "pagesyncd.socket");
            child.stdin(OwnedFd::from(listener));
            let outcome = child.status().unwrap();
            let mut answer = String::new();
            caller.read_to_string(&mut answer).unwrap();
            assert_eq!((outcome.success(), answer.as_str()), (true, "here"), "{address}");
        }
    }

    #[test]
    fn two_sockets_or_another_kind_are_refused() {
        if std::env::var_os(CHILD).is_some() {
            assert!(take_sockets().is_err());
            return;
        }
        let (other, _peer) = UnixDatagram::pair().unwrap();
        let mut child = again("systemd::tests::two_sockets_or_another_kind_are_refused");
        child.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0").stdin(OwnedFd::from(other));
        assert!(child.status().unwrap().success());
        let mut child = again("systemd::tests::two_sockets_or_another_kind_are_refused");
        assert!(child.env("LISTEN_FDS", "2").status().unwrap().success());
    }
}
