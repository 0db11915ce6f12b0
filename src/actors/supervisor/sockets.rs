//! The listening sockets, and how they are bound.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::TcpSocket;

/// The listening sockets.
pub struct Sockets {
    /// The public address; `None` once it is closed for good.
    pub public: Option<TcpListener>,
    /// The public socket is that of a socket unit: its address is systemd's to change.
    pub from_systemd: bool,
    /// The admin socket and where it lies.
    pub admin: (UnixListener, PathBuf),
    /// The admin address on loopback.
    pub admin_tcp: Option<TcpListener>,
}

/// Callers that may wait in the kernel, during a restart for one.
const BACKLOG: u32 = 1024;

/// Binds a TCP address, ready for the runtime, inside of which it is called.
///
/// # Errors
/// As the operating system says.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of an earlier process that are still being closed do not hold the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Binds the admin socket, for its owner and group alone. What a dead daemon left there is replaced; a living one's
/// socket is not.
///
/// # Errors
/// `AddrInUse` when a daemon answers there; otherwise as the operating system says.
pub fn bind_admin(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something lies there that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
