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
        let bound = socket.bind(&address.into());
        #[cfg(windows)]
        let bound = bound.map_err(crate::iocp::address_in_use);
        bound?;
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
        return self.spread_over_reuse_port(count);
        #[cfg(not(target_os = "linux"))]
        {
            let _ = count;
            Ok(vec![self])
        }
    }

    /// The first socket was bound without `SO_REUSEPORT`, so that a port that somebody else listens
    /// on was refused. The option is set on it only now: the kernel compares the options of both
    /// sockets at the time when the further ones bind, and makes the group when they listen.
    #[cfg(target_os = "linux")]
    fn spread_over_reuse_port(self, count: usize) -> io::Result<Vec<Listener>> {
        match &self.origin {
            ListenerOrigin::Os(first) if count > 1 => first.set_reuse_port(true)?,
            _ => return Ok(vec![self]),
        }
        let (address, options) = (self.address, self.options.clone());
        let mut all = Vec::with_capacity(count);
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
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
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
#[allow(clippy::unnecessary_cast, reason = "the limit's type is signed on FreeBSD")]
pub fn descriptor_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place for the result, and outlives the call.
        let answer = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
        (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64)
    }
    #[cfg(windows)]
    None
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    /// Where every loopback address works, one that no other test uses: ports are given up here and
    /// expected to be free.
    const LOCAL: Ipv4Addr =
        if cfg!(target_os = "linux") { Ipv4Addr::new(127, 0, 77, 1) } else { Ipv4Addr::LOCALHOST };
    const V4: SocketAddr = SocketAddr::new(IpAddr::V4(LOCAL), 0);
    const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
    const ANY_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

    fn bind(address: SocketAddr) -> io::Result<Listener> {
        Listener::bind(address, &ListenOptions::default())
    }

    fn os(listener: &Listener) -> &socket2::Socket {
        match &listener.origin {
            ListenerOrigin::Os(socket) => socket,
            #[cfg(feature = "sim")]
            ListenerOrigin::Sim => panic!("a simulated listener"),
        }
    }

    fn assert_in_use(address: SocketAddr) {
        let second = bind(address).map(|listener| listener.address());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    /// Not every machine that tests this has IPv6.
    fn has_v6() -> bool {
        bind(V6).is_ok()
    }

    #[test]
    fn a_bound_port_is_refused_to_others() {
        let first = bind(V4).unwrap();
        assert_ne!(first.address().port(), 0, "the port that the kernel chose");
        assert_in_use(first.address());
        let port = first.address().port();
        assert_in_use((Ipv4Addr::UNSPECIFIED, port).into());
        drop(first);
        bind((LOCAL, port).into()).unwrap();
    }

    #[test]
    fn a_port_is_free_again_while_old_connections_linger() {
        let first = bind(V4).unwrap();
        let address = first.address();
        let socket = os(&first);
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        // The side that closes first keeps the connection's address for a while.
        drop(accepted);
        drop(first);
        bind(address).unwrap();
        drop(client);
    }

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_only_if_asked_to() {
        if !has_v6() {
            return;
        }
        let both = bind(ANY_V6).unwrap();
        TcpStream::connect((LOCAL, both.address().port())).unwrap();
        TcpStream::connect((Ipv6Addr::LOCALHOST, both.address().port())).unwrap();
        let options = ListenOptions { dual_stack: false, ..ListenOptions::default() };
        let only_v6 = Listener::bind(ANY_V6, &options).unwrap();
        TcpStream::connect((Ipv6Addr::LOCALHOST, only_v6.address().port())).unwrap();
        TcpStream::connect((LOCAL, only_v6.address().port())).unwrap_err();
    }

    #[cfg(target_os = "linux")]
    mod spread {
        use std::thread;

        use super::*;

        /// How many of 64 connections each of two listeners accepts.
        fn shares(address: SocketAddr, clients: &[SocketAddr]) -> Vec<usize> {
            let mut listeners = bind(address).unwrap().spread(2).unwrap();
            assert_eq!(listeners.len(), 2);
            let bound = listeners[0].address();
            assert_eq!(listeners[1].address(), bound);
            assert_in_use(bound);
            let clients: Vec<_> = (0..64)
                .map(|index| {
                    let mut to = clients[index % clients.len()];
                    to.set_port(bound.port());
                    TcpStream::connect(to).unwrap()
                })
                .collect();
            let shares = listeners.iter().map(|listener| {
                let socket = os(listener);
                socket.set_nonblocking(true).unwrap();
                std::iter::from_fn(|| socket.accept().ok()).count()
            });
            let shares: Vec<usize> = shares.collect();
            drop(clients);
            listeners.truncate(1);
            assert_in_use(bound);
            shares
        }

        #[test]
        fn every_listener_of_a_group_receives_connections() {
            let mut cases = vec![(V4, vec![V4])];
            if has_v6() {
                cases.push((V6, vec![V6]));
                cases.push((ANY_V6, vec![V4, V6]));
            }
            for (address, clients) in cases {
                let shares = shares(address, &clients);
                assert!(shares.iter().all(|&share| share > 0), "{address}: {shares:?}");
                assert_eq!(shares.iter().sum::<usize>(), 64, "{address}: {shares:?}");
            }
        }

        #[test]
        fn one_is_spread_over_one_and_stays_alone() {
            let listeners = bind(V4).unwrap().spread(1).unwrap();
            assert_eq!(listeners.len(), 1);
            let socket = os(&listeners[0]);
            assert!(!socket.reuse_port().unwrap());
        }

        #[test]
        fn of_two_that_want_one_port_at_once_one_gets_it() {
            for _ in 0..20 {
                let address = bind(V4).unwrap().address();
                let race = || thread::spawn(move || bind(address).and_then(|one| one.spread(2)));
                let outcomes = [race(), race()].map(|thread| thread.join().unwrap());
                let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                assert!(won <= 1, "both listen on {address}");
            }
        }
    }
}
