//! epoll and kqueue.

use std::io;

use crate::port::Implementation;
use crate::*;

pub(crate) struct Readiness;

impl Readiness {
    pub(crate) fn open(_: &Config) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
impl Implementation for Readiness {
    fn now(&self) -> Time { unreachable!() }
    fn unix_time(&self) -> u64 { unreachable!() }
    fn waker(&self) -> Waker{ unreachable!() }
    fn listen(&mut self, _listener: Listener) -> io::Result<Socket>{ unreachable!() }
    fn adopt(&mut self, _incoming: Incoming) -> io::Result<Socket>{ unreachable!() }
    fn accept(&mut self, _listener: Socket, _token: Token) -> Operation{ unreachable!() }
    fn receive(&mut self, _socket: Socket, _token: Token) -> Operation{ unreachable!() }
    fn receive_into(&mut self, _socket: Socket, _block: Vec<u8>, _token: Token) -> Operation{ unreachable!() }
    fn send(&mut self, _socket: Socket, _gather: Box<Gather>, _token: Token) -> Operation{ unreachable!() }
    fn send_file(&mut self, _socket: Socket, _range: FileRange, _token: Token) -> Operation{ unreachable!() }
    fn shutdown(&mut self, _socket: Socket, _token: Token) -> Operation{ unreachable!() }
    fn close(&mut self, _socket: Socket, _reset: bool, _token: Token){ unreachable!() }
    fn cancel(&mut self, _operation: Operation){ unreachable!() }
    fn wait(&mut self, _completions: &mut Vec<Completion>, _until: Option<Time>) -> io::Result<()>{ unreachable!() }
    fn counters(&mut self) -> Counters{ unreachable!() }
}
