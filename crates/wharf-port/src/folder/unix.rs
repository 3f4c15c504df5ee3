//! Opening files in Unix' words.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Without waiting for a pipe's writer, and without making a terminal ours.
pub(super) const FLAGS: libc::c_int = libc::O_NONBLOCK | libc::O_NOCTTY;

pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(FLAGS).open(path);
    file.map_err(missing).and_then(waiting)
}

/// Opens a path whose last component is no link.
pub(super) fn open_unlinked(path: &Path) -> io::Result<File> {
    let flags = FLAGS | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    file.map_err(missing).and_then(waiting)
}

/// Undoes `O_NONBLOCK`, which was for opening alone: io_uring takes it to mean that nothing may
/// wait for the disk.
pub(super) fn waiting(file: File) -> io::Result<File> {
    // SAFETY: no pointer is passed, and the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(file),
    }
}

/// Links that go in a circle lead to nothing.
pub(super) fn missing(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ELOOP) => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}

/// When anything of it last changed, and which file it is.
#[expect(clippy::unnecessary_wraps, reason = "on Windows it has to be asked for")]
pub(super) fn identity(_: &File, metadata: &Metadata) -> io::Result<(SystemTime, (u64, u64))> {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
    let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)).unwrap_or(UNIX_EPOCH);
    Ok((changed, (metadata.dev(), metadata.ino())))
}
