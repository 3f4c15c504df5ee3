//! Every limit and timeout, with its default and the status that answers its breach.

use std::time::Duration;

use crate::error::{Error, Kind};

/// The server's limits and timeouts. All are on.
///
/// ```
/// use std::time::Duration;
/// use wharf::Limits;
///
/// let limits = Limits {
///     body_bytes: 10 * 1024 * 1024,
///     idle_timeout: Duration::from_secs(15),
///     ..Limits::default()
/// };
/// # let _ = limits;
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    /// Length of a request line, in bytes. Beyond it: 414. Default 8 KiB; RFC 9112 section 3 asks
    /// for 8,000 at least.
    pub request_line_bytes: usize,
    /// Length of a request's head, in bytes, request line included; 65,535 at most. Beyond it:
    /// 431. Default 16 KiB.
    pub head_bytes: usize,
    /// Header fields in a request. Beyond it: 431. Default 100.
    pub fields: usize,
    /// Length of a request's body, in bytes, where the [route](crate::Route::body_limit) does not
    /// say otherwise. Beyond it: 413, before the body is received if its length was announced.
    /// Default 2 MiB.
    pub body_bytes: usize,
    /// Bytes of bodies that are being received at one time, over all connections. Beyond it: 503
    /// with Retry-After. Default 512 MiB.
    pub bodies_bytes: usize,
    /// From accept to the first byte of the first request. Then the connection is closed without
    /// an answer. Default 10 s.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request to the end of its head. Beyond it: 408. Default 10 s.
    pub head_timeout: Duration,
    /// How long a body may take regardless of its rate. Beyond it and
    /// [`body_bytes_per_second`](Limits::body_bytes_per_second): 408. Default 10 s.
    pub body_grace: Duration,
    /// The rate at which a body must arrive on the whole once its grace is used up. Default
    /// 1,024 bytes a second.
    pub body_bytes_per_second: u32,
    /// From one answer to the first byte of the next request. Then the connection is closed
    /// without an answer. Default 60 s.
    pub idle_timeout: Duration,
    /// How long a peer may take none of the bytes that are sent to it. Then the connection is
    /// reset. Default 30 s.
    pub write_stall_timeout: Duration,
    /// The rate at which a peer must take what is sent to it once it has used up
    /// [`write_stall_timeout`](Limits::write_stall_timeout): every byte that it takes earns back
    /// the time that a byte takes at this rate. Below it the connection is reset. What the system
    /// buffers counts as taken. Default 1,024 bytes a second.
    pub send_bytes_per_second: u32,
    /// How long input is thrown away behind an answer that closes the connection, so that the
    /// peer gets to read that answer (RFC 9112 section 9.6). Default 2 s.
    pub linger_timeout: Duration,
    /// Connections at one time. Beyond it, accepting pauses until one is closed. Default 20,000,
    /// or what there is room for, if that is less: the process's limit of descriptors, and with
    /// io_uring (Linux 6.8) as many once more for each shard, since it holds connections without.
    pub connections: usize,
    /// Connections at one time from one peer address (of an IPv6 address the first 64 bits).
    /// Beyond it, a new one is closed. Default 10,000: lower it unless clients come through a
    /// proxy.
    pub connections_per_peer: usize,
    /// Requests on one connection; the last one is answered with `Connection: close`. Default
    /// 1,000,000.
    pub requests_per_connection: u32,
    /// Memory for received bytes that wait for a handler or are held by one, in bytes and per
    /// shard. When it is used up, receiving pauses. Default 32 MiB.
    pub receive_bytes: usize,
    /// Requests that wait for a worker. Beyond it: 503 with Retry-After. Default 1,024. Where
    /// several routes run on workers, one has three quarters of the places at the most, so that the
    /// others find some free.
    pub queued_requests: usize,
    /// What a call of an [adaptive](crate::Route::adaptive) route may take to be run on the I/O
    /// thread, where it saves the way to a worker and back. Default 50 µs.
    pub inline_budget: Duration,
    /// Bytes of a request's body that wait for the reader of a [streaming](crate::Route::streaming)
    /// route. Beyond it, receiving pauses. Default 64 KiB.
    pub stream_bytes: usize,
    /// Threads of the worker pool, which start when needed and end when idle. Default 256. One route
    /// has three quarters of them at the most; see [`Route::concurrency`](crate::Route::concurrency).
    pub workers: usize,
    /// How long a worker waits for something to do before its thread ends. Default 10 s.
    pub worker_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes: 8 * 1024,
            head_bytes: 16 * 1024,
            fields: 100,
            body_bytes: 2 * 1024 * 1024,
            bodies_bytes: 512 * 1024 * 1024,
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_grace: Duration::from_secs(10),
            body_bytes_per_second: 1024,
            idle_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(30),
            send_bytes_per_second: 1024,
            linger_timeout: Duration::from_secs(2),
            connections: 20_000,
            connections_per_peer: 10_000,
            requests_per_connection: 1_000_000,
            receive_bytes: 32 * 1024 * 1024,
            queued_requests: 1024,
            inline_budget: Duration::from_micros(50),
            stream_bytes: 64 * 1024,
            workers: 256,
            worker_idle_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The time by which every connection is looked at once more; see the timer wheel.
    pub(crate) fn shortest_timeout(&self) -> Duration {
        [
            self.first_byte_timeout,
            self.head_timeout,
            self.body_grace,
            self.idle_timeout,
            self.write_stall_timeout,
            self.linger_timeout,
        ]
        .into_iter()
        .min()
        .unwrap_or(Duration::from_secs(1))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |what: &'static str| Err(Error::new(Kind::Configuration, what));
        if self.head_bytes > usize::from(u16::MAX) {
            return wrong("Limits::head_bytes is more than 65,535: give it at most that");
        }
        if self.shortest_timeout() < Duration::from_millis(1) {
            return wrong("a timeout in Limits is shorter than 1 ms: give each at least that");
        }
        let counts = [
            (self.request_line_bytes, "Limits::request_line_bytes is 0"),
            (self.head_bytes, "Limits::head_bytes is 0"),
            (self.connections, "Limits::connections is 0"),
            (self.connections_per_peer, "Limits::connections_per_peer is 0"),
            (self.requests_per_connection as usize, "Limits::requests_per_connection is 0"),
            (self.body_bytes_per_second as usize, "Limits::body_bytes_per_second is 0"),
            (self.send_bytes_per_second as usize, "Limits::send_bytes_per_second is 0"),
            (self.workers, "Limits::workers is 0"),
            (self.stream_bytes, "Limits::stream_bytes is 0"),
            (self.queued_requests, "Limits::queued_requests is 0"),
        ];
        match counts.into_iter().find(|&(count, _)| count == 0) {
            Some((_, what)) => Err(Error::new(
                Kind::Configuration,
                format!("{what}: nothing could be served, give it at least 1"),
            )),
            None => Ok(()),
        }
    }
}
