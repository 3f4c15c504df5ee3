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
    use std::io;

    pub(super) fn on_termination(notify: Box<dyn Fn() + Send + Sync>) -> io::Result<()> {
        ctrlc::set_handler(notify).map_err(|error| match error {
            ctrlc::Error::MultipleHandlers => {
                io::Error::new(io::ErrorKind::AlreadyExists, "Ctrl-C is handled already")
            }
            ctrlc::Error::System(error) => error,
            other => io::Error::other(other),
        })
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
