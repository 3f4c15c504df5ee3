//! How a socket is named to the kernel, and found again when the kernel says the name.

use crate::Socket;

/// Where a name has 64 bits, it is the socket's slot and generation: a late edge for a socket that
/// is closed finds nothing.
#[cfg(target_pointer_width = "64")]
pub(super) struct Names;

#[cfg(target_pointer_width = "64")]
impl Names {
    pub(super) fn new() -> Names {
        Names
    }

    pub(super) fn name(&mut self, key: Socket) -> mio::Token {
        mio::Token(slotmap::Key::data(&key).as_ffi() as usize)
    }

    pub(super) fn key(&self, name: mio::Token) -> Option<Socket> {
        Some(Socket::from(slotmap::KeyData::from_ffi(name.0 as u64)))
    }
}

/// Where a name has 32 bits, it is the socket's slot alone, and finds the slot's current socket. A
/// late edge for the one before is taken for this one's; the try that it causes would block.
#[cfg(not(target_pointer_width = "64"))]
pub(super) struct Names {
    keys: Vec<Socket>,
}

#[cfg(not(target_pointer_width = "64"))]
impl Names {
    pub(super) fn new() -> Names {
        Names { keys: Vec::new() }
    }

    pub(super) fn name(&mut self, key: Socket) -> mio::Token {
        let slot = slotmap::Key::data(&key).as_ffi() as u32 as usize;
        if self.keys.len() <= slot {
            self.keys.resize(slot + 1, Socket::default());
        }
        self.keys[slot] = key;
        mio::Token(slot)
    }

    pub(super) fn key(&self, name: mio::Token) -> Option<Socket> {
        self.keys.get(name.0).copied()
    }
}
