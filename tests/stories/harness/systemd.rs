//! The place of systemd: the socket to which a daemon says how it is.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What a daemon said to its service manager, in order. It listens while it is there.
pub struct Manager {
    path: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    /// Listens at a socket in this folder.
    pub fn listen(folder: &Path) -> Manager {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = heard.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                if &bytes[..length] == b"end" {
                    break;
                }
                to.lock().unwrap().push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            }
        });
        Manager { path, heard }
    }

    /// The address for `NOTIFY_SOCKET`.
    pub fn address(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Everything that was said so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// What `systemctl status` shows as the status.
    pub fn status(&self) -> String {
        let heard = self.heard.lock().unwrap();
        let status =
            |message: &String| message.lines().find_map(|line| line.strip_prefix("STATUS=")).map(str::to_owned);
        heard.iter().rev().find_map(status).unwrap_or_default()
    }

    /// How often the watchdog was fed.
    pub fn feedings(&self) -> usize {
        self.heard.lock().unwrap().iter().filter(|message| message.starts_with("WATCHDOG=1")).count()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = UnixDatagram::unbound().unwrap().send_to(b"end", &self.path);
    }
}
