//! A connection over a socket, for the cases.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::exchange::Wire;

/// Longer than any server here takes, so that a case which hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Socket(TcpStream);

impl Socket {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Socket> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Socket(stream))
    }
}

impl Wire for Socket {
    fn send(&mut self, bytes: &[u8]) {
        // A server that has refused what came before need not take this; its answer tells.
        let _ = self.0.write_all(bytes);
    }

    fn finish_sending(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    fn receive(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut buffer = vec![0; 16 * 1024];
        match self.0.read(&mut buffer) {
            Ok(0) => Ok(None),
            Ok(count) => {
                buffer.truncate(count);
                Ok(Some(buffer))
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => Ok(Some(Vec::new())),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(format!("nothing comes: {error}")),
            },
        }
    }
}
