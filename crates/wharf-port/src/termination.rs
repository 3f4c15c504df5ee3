//! The system's word that the process is to end.

use std::io;

/// Has `notify` called, on a thread of its own, whenever the process is told to end.
///
/// On Unix that is SIGINT (Ctrl-C), SIGTERM or SIGHUP. On Windows it is Ctrl-C, Ctrl-Break, the
/// close of the console, and the end of the session or of the system; after the latter three
/// Windows gives the process a few seconds (5 by default) before it ends it.
///
/// The process has one such function, for good.
///
/// # Errors
/// `AlreadyExists` if there is one already, or what the system reports.
pub fn on_termination(notify: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    system::on_termination(Box::new(notify))
}

#[cfg(unix)]
mod system {
    use std::io::{self, Read};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::OnceLock;
    use std::thread;

    /// The end that the signals' action writes to; never closed.
    static TELL: OnceLock<UnixStream> = OnceLock::new();

    pub(super) fn on_termination(notify: Box<dyn Fn() + Send + Sync>) -> io::Result<()> {
        let (tell, mut told) = UnixStream::pair()?;
        // Nothing waits in a signal's action: a full socket has more words than anybody needs.
        tell.set_nonblocking(true)?;
        let fd = tell.as_raw_fd();
        TELL.set(tell).map_err(|_| {
            io::Error::new(io::ErrorKind::AlreadyExists, "signals are handled already")
        })?;
        // Before the signals are caught, so that none is lost.
        thread::Builder::new().name("wharf-signals".to_owned()).spawn(move || {
            while told.read_exact(&mut [0]).is_ok() {
                notify();
            }
        })?;
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            let tell = move || {
                let word = 0u8;
                // SAFETY: the word outlives the call. That nobody hears it is nobody's fault here.
                let _ = unsafe { libc::write(fd, (&raw const word).cast(), 1) };
            };
            // SAFETY: write(2) is all that the action does, and may be called in a handler.
            unsafe { signal_hook_registry::register(signal, tell) }?;
        }
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use std::sync::mpsc;

        use super::*;
        use crate::on_termination;

        #[test]
        fn each_signal_is_told_of_and_ends_nothing() {
            let (tell, told) = mpsc::channel();
            let again = tell.clone();
            on_termination(move || tell.send(()).unwrap()).unwrap();
            let refused = on_termination(move || again.send(()).unwrap()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGTERM] {
                // SAFETY: it has no memory of ours.
                assert_eq!(unsafe { libc::raise(signal) }, 0);
                told.recv().unwrap();
            }
            assert!(told.try_recv().is_err(), "once for each");
        }
    }
}

#[cfg(windows)]
mod system {
    use std::io;
    use std::sync::OnceLock;

    use windows_sys::Win32::System::Console::{
        CTRL_BREAK_EVENT, CTRL_C_EVENT, SetConsoleCtrlHandler,
    };
    use windows_sys::core::BOOL;

    static NOTIFY: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

    pub(super) fn on_termination(notify: Box<dyn Fn() + Send + Sync>) -> io::Result<()> {
        NOTIFY.set(notify).map_err(|_| {
            io::Error::new(io::ErrorKind::AlreadyExists, "console events are handled already")
        })?;
        // SAFETY: the handler is a plain function that may be called on any thread at any time.
        if unsafe { SetConsoleCtrlHandler(Some(handle), 1) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Windows calls this on a new thread for every event.
    ///
    /// After a close, a logoff or a shutdown it ends the process as soon as this returns, whatever
    /// other threads are doing. So this does not return: the process ends when `main` does, or
    /// when Windows loses patience.
    pub(super) unsafe extern "system" fn handle(event: u32) -> BOOL {
        if let Some(notify) = NOTIFY.get() {
            notify();
        }
        if event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT {
            return 1;
        }
        loop {
            std::thread::park();
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::mpsc;
        use std::thread;

        use windows_sys::Win32::System::Console::CTRL_CLOSE_EVENT;

        use super::*;
        use crate::on_termination;

        #[test]
        fn a_close_is_told_of_and_held_up() {
            let (tell, told) = mpsc::channel();
            let again = tell.clone();
            on_termination(move || tell.send(()).unwrap()).unwrap();
            let refused = on_termination(move || again.send(()).unwrap()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);

            // SAFETY: the system calls it just so.
            assert_eq!(unsafe { handle(CTRL_C_EVENT) }, 1);
            told.try_recv().unwrap();
            // SAFETY: the system calls it just so.
            let closing = thread::spawn(|| unsafe { handle(CTRL_CLOSE_EVENT) });
            told.recv().unwrap();
            assert!(!closing.is_finished(), "Windows would end the process now");
        }
    }
}
