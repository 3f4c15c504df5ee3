//! Waiting for Ctrl-C or the system's word that the process is to end.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Kind};

/// One signal ends every server that waits; it is not taken back.
static ENDING: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
static HANDLER: OnceLock<Result<(), String>> = OnceLock::new();

/// Takes the signals from now on, so that none ends the process any more.
pub(crate) fn listen() -> Result<(), Error> {
    let set = HANDLER.get_or_init(|| {
        wharf_port::on_termination(|| {
            *ENDING.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            ENDING.1.notify_all();
        })
        .map_err(|error| error.to_string())
    });
    set.as_ref().copied().map_err(|error| {
        Error::with_source(
            Kind::System,
            "the handler of Ctrl-C and SIGTERM could not be set; use Server::start, and shut \
             down from the program's own handler",
            error.as_str(),
        )
    })
}

/// Returns when the process is told to end.
pub(crate) fn wait() {
    let mut ending = ENDING.0.lock().unwrap_or_else(PoisonError::into_inner);
    while !*ending {
        ending = ENDING.1.wait(ending).unwrap_or_else(PoisonError::into_inner);
    }
}
