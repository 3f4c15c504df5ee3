//! Listening sockets and accepted ones, before they belong to a port.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Type};

/// How a listening socket is set up.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections that the kernel keeps ready for accept. Default 4,096; the kernel may cap it.
    pub backlog: u32,
    /// Whether an IPv6 wildcard address takes IPv4 connections too. Default true.
    pub dual_stack: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, dual_stack: true }
    }
}

/// A listening socket that no port has yet.
#[derive(Debug)]
pub struct Listener {
    pub(crate) origin: ListenerOrigin,
    pub(crate) address: SocketAddr,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "made for further sockets"))]
    options: ListenOptions,
}

#[derive(Debug)]
pub(crate) enum ListenerOrigin {
    Os(socket2::Socket),
    #[cfg(feature = "sim")]
    Sim,
}

impl Listener {
    /// Binds `address` and listens on it.
    ///
    /// The address belongs to this socket alone: on Unix with `SO_REUSEADDR` (a restart need not
    /// wait for old connections), on Windows with `SO_EXCLUSIVEADDRUSE`. Accepted connections have
    /// `TCP_NODELAY` set.
    ///
    /// # Errors
    /// What `socket`, `bind` or `listen` reports; `AddrInUse` if any other socket listens there.
    pub fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
        let socket = new_socket(address, options)?;
        socket.bind(&address.into())?;
        socket.listen(options.backlog.min(i32::MAX as u32) as i32)?;
        Self::from_socket(socket, options)
    }

    fn from_socket(socket: socket2::Socket, options: &ListenOptions) -> io::Result<Listener> {
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the listening socket has no IP address"))?;
        Ok(Listener { origin: ListenerOrigin::Os(socket), address, options: options.clone() })
    }

    /// A listener for a simulated port.
    #[cfg(feature = "sim")]
    pub fn simulated(address: SocketAddr) -> Listener {
        Listener { origin: ListenerOrigin::Sim, address, options: ListenOptions::default() }
    }

    /// The address that is bound, with the port that the kernel chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Turns this listener into as many as the platform itself spreads connections over, at most
    /// `count`: on Linux `count` sockets of one `SO_REUSEPORT` group; elsewhere just this one,
    /// whose accepted connections the caller hands on.
    ///
    /// # Errors
    /// What the system reports when a further socket is made.
    pub fn spread(self, count: usize) -> io::Result<Vec<Listener>> {
        #[cfg(target_os = "linux")]
        if let ListenerOrigin::Os(_) = self.origin {
            return self.spread_over_reuse_port(count);
        }
        let _ = count;
        Ok(vec![self])
    }

    /// The first socket was bound without `SO_REUSEPORT`, so that a port that somebody else listens
    /// on was refused. The option is set on it only now: the kernel compares the options of both
    /// sockets at the time when the further ones bind, and makes the group at `listen`.
    #[cfg(target_os = "linux")]
    fn spread_over_reuse_port(self, count: usize) -> io::Result<Vec<Listener>> {
        let ListenerOrigin::Os(first) = &self.origin else { unreachable!("checked by the caller") };
        let mut all = Vec::with_capacity(count);
        if count > 1 {
            first.set_reuse_port(true)?;
        }
        let (address, options) = (self.address, self.options.clone());
        all.push(self);
        for _ in 1..count {
            let socket = new_socket(address, &options)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(options.backlog.min(i32::MAX as u32) as i32)?;
            all.push(Self::from_socket(socket, &options)?);
        }
        Ok(all)
    }
}

fn new_socket(address: SocketAddr, options: &ListenOptions) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(windows)]
    crate::iocp::set_exclusive_address_use(&socket)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// An accepted connection that no port has adopted yet. Dropping it closes it.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) origin: IncomingOrigin,
    pub(crate) peer: SocketAddr,
}

#[derive(Debug)]
pub(crate) enum IncomingOrigin {
    Os(socket2::Socket),
    #[cfg(feature = "sim")]
    Sim(crate::sim::Accepted),
}

impl Incoming {
    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// How many descriptors this process may have open, where the system limits them.
pub fn descriptor_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place for the result, and outlives the call.
        let answer = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
        (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    }
    #[cfg(windows)]
    None
}
