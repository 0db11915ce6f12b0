//! A loopback address that leads to one server at a time and can be moved to another one, as the host name of a managed
//! database moves to the standby that was promoted.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The address. It leads nowhere any more once this is dropped.
#[derive(Debug)]
pub struct Forwarder {
    port: u16,
    target: watch::Sender<Option<u16>>,
    _listening: AbortOnDropHandle<()>,
}

impl Forwarder {
    /// An address that leads to this port.
    ///
    /// # Errors
    /// The system gives no port.
    pub async fn start(target: u16) -> io::Result<Forwarder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let target = watch::Sender::new(Some(target));
        let targets = target.clone();
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(forward(near, targets.subscribe()));
            }
        });
        Ok(Forwarder { port, target, _listening: AbortOnDropHandle::new(listening) })
    }

    /// The port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to this port from here on, or nowhere. Connections that are open are cut.
    pub fn lead_to(&self, target: Option<u16>) {
        self.target.send_replace(target);
    }
}

async fn forward(mut near: TcpStream, mut targets: watch::Receiver<Option<u16>>) {
    let Some(target) = *targets.borrow_and_update() else { return };
    let forwarding = async {
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
        // Both sides send a message in pieces, each of which would wait for the answer to the one before.
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        // Either side may hang up at any time.
        _ = forwarding => {}
        _ = targets.changed() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn server(answer: u8) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_u8(answer).await.unwrap();
                open.push(stream);
            }
        });
        port
    }

    #[tokio::test]
    async fn an_address_that_moves_cuts_what_is_open_and_leads_elsewhere() {
        let address = Forwarder::start(server(1).await).await.unwrap();
        let connect = async || TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await.unwrap();
        let mut first = connect().await;
        assert_eq!(first.read_u8().await.unwrap(), 1);
        address.lead_to(None);
        assert!(first.read_u8().await.is_err() && connect().await.read_u8().await.is_err());
        address.lead_to(Some(server(2).await));
        assert_eq!(connect().await.read_u8().await.unwrap(), 2);
    }
}
