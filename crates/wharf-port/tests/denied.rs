//! Where io_uring is denied, as container runtimes do, a port serves through epoll and says why.
//!
//! A seccomp filter cannot be taken back, but it is one thread's alone (and of those that this one
//! starts), as a port is. So each case has a thread.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its cases do")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use wharf_port::{
    Backend, Choice, Config, Event, Gather, ListenOptions, Listener, Port, Socket, Token,
};

const MESSAGE: &str = "is anybody there?";

#[test]
fn io_uring_setup_denied_with_eperm() {
    serves_without("io_uring_setup", libc::EPERM);
}

#[test]
fn io_uring_setup_denied_with_enosys() {
    serves_without("io_uring_setup", libc::ENOSYS);
}

#[test]
fn io_uring_setup_without_memory() {
    serves_without("io_uring_setup", libc::ENOMEM);
}

#[test]
fn io_uring_setup_without_descriptors_in_the_system() {
    serves_without("io_uring_setup", libc::ENFILE);
}

#[test]
fn io_uring_register_without_memory() {
    serves_without("io_uring_register", libc::ENOMEM);
}

#[test]
fn io_uring_enter_denied_with_eperm() {
    serves_without("io_uring_enter", libc::EPERM);
}

#[test]
fn io_uring_enter_denied_with_enosys() {
    serves_without("io_uring_enter", libc::ENOSYS);
}

#[test]
fn io_uring_register_denied_with_eperm() {
    serves_without("io_uring_register", libc::EPERM);
}

#[test]
fn io_uring_register_denied_with_enosys() {
    serves_without("io_uring_register", libc::ENOSYS);
}

fn serves_without(call: &'static str, errno: i32) {
    thread::spawn(move || serve_without(call, errno)).join().unwrap();
}

fn serve_without(call: &str, errno: i32) {
    // Where io_uring is missing already, the reason is this test's only for the call that is tried
    // first, and under an emulator, which has no seccomp either, for none.
    let allowed = Port::open(Choice::Only(Backend::Uring), &config()).is_ok();
    let denied = deny(call, errno);
    assert!(denied.is_ok() || !allowed, "{denied:?}");
    let assert_names_it = |reason: String| {
        let word = std::io::Error::from_raw_os_error(errno).to_string();
        let ours = allowed || (denied.is_ok() && call == "io_uring_setup");
        assert!(!ours || (reason.contains(call) && reason.contains(&word)), "{reason:?}");
    };

    let refused = Port::open(Choice::Only(Backend::Uring), &config()).unwrap_err();
    assert_names_it(refused.to_string());

    let mut port = Port::open(Choice::Auto, &config()).unwrap();
    assert_eq!(port.backend(), Backend::Readiness);
    assert_names_it(port.fallback_reason().expect("not the first choice").to_string());
    serve_an_echo(&mut port);

    let forced = Port::open(Choice::Only(Backend::Readiness), &config()).unwrap();
    assert!(forced.fallback_reason().is_none(), "it was asked for");
}

fn config() -> Config {
    Config { receive_blocks: 8, receive_blocks_max: 8, submissions: 8, ..Config::default() }
}

/// Makes the system call fail on this thread, from now on.
fn deny(call: &str, errno: i32) -> seccompiler::Result<()> {
    let number = match call {
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "io_uring_enter" => libc::SYS_io_uring_enter,
        "io_uring_register" => libc::SYS_io_uring_register,
        other => panic!("which system call is {other}?"),
    };
    let filter = SeccompFilter::new(
        BTreeMap::from([(number, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program)?;
    // SAFETY: all three calls refuse these arguments without touching memory.
    let answer = unsafe { libc::syscall(number, -1, 0, 0, 0, 0, 0) };
    let error = std::io::Error::last_os_error();
    assert_eq!((answer, error.raw_os_error()), (-1, Some(errno)), "the filter does not work");
    Ok(())
}

/// Serves one client, which says something, ends its side, and reads it all back.
fn serve_an_echo(port: &mut Port) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(any, &ListenOptions::default()).unwrap();
    let address = listener.address();
    let listener = port.listen(listener).unwrap();
    port.accept(listener, Token(0));
    let client = thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.write_all(MESSAGE.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, MESSAGE);
    });
    let mut connection = Socket::default();
    let mut heard = Box::new(Gather::default());
    let mut completions = Vec::new();
    let mut closed = false;
    let until = port.now() + Duration::from_secs(60);
    while !closed {
        port.wait(&mut completions, Some(until)).unwrap();
        assert!(port.now() < until, "the echo hangs");
        for completion in completions.drain(..) {
            match completion.event {
                Event::Accepted(incoming) => {
                    connection = port.adopt(incoming).unwrap();
                    port.receive(connection, Token(1));
                }
                Event::Received(lease) => heard.block_mut().extend_from_slice(&lease),
                Event::ReceiveEnded(result) => {
                    result.unwrap();
                    port.send(connection, std::mem::take(&mut heard), Token(2));
                }
                Event::Sent { result, .. } => {
                    assert_eq!(result.unwrap(), MESSAGE.len());
                    port.close(connection, Token(3));
                }
                Event::Closed => closed = true,
                other => panic!("{other:?}"),
            }
        }
    }
    client.join().unwrap();
}
