//! What the daemon says to systemd, and the listening socket it may get from it. Without systemd all of it is silent:
//! no socket to notify means nothing to say, and no socket passed means `None`.
//!
//! The order matters to systemd. `ready` is said once everything is up, and again after each `reloading`, a refused
//! reload included: `systemctl reload` waits for it where the unit is of `Type=notify-reload`. `stopping` is said when
//! draining begins. A status is one line of text; line breaks are taken out of it, because on this channel a line
//! break begins another message, and a status may carry words from outside.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Longest status sent, in bytes; `systemctl status` shows one line.
const MAX_STATUS: usize = 400;

/// Everything is up, or up again after a reload; and what there is to say of it.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A reload begins. [`ready`] ends it, however it went.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        // Without the time systemd takes the message for a broken one and ends the service.
        Err(error) => tracing::warn!(%error, "cannot read the monotonic clock; systemd is not told of the reload"),
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

/// The daemon is alive. To be sent by whoever notices when it is not.
pub fn ping() {
    send(&[NotifyState::Watchdog]);
}

/// The listening socket that systemd passed, ready for an async runtime; `None` when it passed none, or when it was
/// taken already.
///
/// Call it before any thread is started: the variables that describe the socket are removed from the environment, so
/// that no child process takes it for its own. The error is that of a socket which is not a TCP socket, or
/// of more than one: the unit is wrong, and going on would listen somewhere else than the operator meant.
pub fn take_tcp_listener() -> io::Result<Option<TcpListener>> {
    let mut passed = ListenFd::from_env();
    if passed.len() > 1 {
        let message = format!("systemd passed {} sockets; leave one ListenStream= in pagesyncd.socket", passed.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let listener = passed.take_tcp_listener(0)?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true)?;
    }
    Ok(listener)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
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
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

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
            status("é".repeat(300).as_str());
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
        assert_eq!(hear(), format!("STATUS={}\n", "é".repeat(200)));
        assert_eq!(hear(), "WATCHDOG=1\n");
        assert_eq!(hear(), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn a_passed_socket_is_taken_once() {
        if std::env::var_os(CHILD).is_some() {
            let listener = take_tcp_listener().unwrap().unwrap();
            assert!(take_tcp_listener().unwrap().is_none());
            listener.set_nonblocking(false).unwrap();
            listener.accept().unwrap().0.write_all(b"here").unwrap();
            return;
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has nothing to pass.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut child = again("systemd::tests::a_passed_socket_is_taken_once");
            child.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0").stdin(OwnedFd::from(listener));
            let outcome = child.status().unwrap();
            let mut answer = String::new();
            caller.read_to_string(&mut answer).unwrap();
            assert_eq!((outcome.success(), answer.as_str()), (true, "here"), "{address}");
        }
    }

    #[test]
    fn two_sockets_or_another_kind_are_refused() {
        if std::env::var_os(CHILD).is_some() {
            assert!(take_tcp_listener().is_err());
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
