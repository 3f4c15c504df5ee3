//! Linux's own guard: `openat2` (5.6), which never lets a path out of its folder.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Opened;
use super::system::{FLAGS, missing, waiting};

/// A rename elsewhere may make the kernel unsure of where it is; so often it is asked again.
const TRIES: usize = 16;

/// The folder that nothing may lead out of.
#[derive(Debug)]
pub(super) struct Beneath {
    /// None: the kernel is not asked.
    folder: Option<File>,
}

impl Beneath {
    pub(super) fn open(path: &Path) -> io::Result<Beneath> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Beneath { folder: Some(folder) })
    }

    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        self.folder = None;
    }

    pub(super) fn open_file(&self, relative: &Path) -> Opened {
        let Some(folder) = &self.folder else { return Opened::Unknown };
        let itself = Path::new(".");
        let relative = if relative.as_os_str().is_empty() { itself } else { relative };
        let Ok(path) = CString::new(relative.as_os_str().as_bytes()) else {
            return Opened::Failed(io::ErrorKind::NotFound.into());
        };
        for _ in 0..TRIES {
            let error = match open_beneath(folder, &path) {
                Ok(file) => return waiting(file).map_or_else(Opened::Failed, Opened::File),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => {}
                // No such call, or a filter that forbids it.
                Some(libc::ENOSYS | libc::EPERM) => return Opened::Unknown,
                // A link that begins at the system's root may still lead back in here.
                Some(libc::EXDEV) => return Opened::Unknown,
                _ => return Opened::Failed(missing(error)),
            }
        }
        Opened::Unknown
    }
}

fn open_beneath(folder: &File, path: &CString) -> io::Result<File> {
    // SAFETY: it is made of integers, for which zeroes are values.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | FLAGS) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    let (folder, path) = (folder.as_raw_fd(), path.as_ptr());
    // SAFETY: the descriptor is open, the path ends with NUL, and `how` has the size that is said.
    let opened = unsafe {
        libc::syscall(libc::SYS_openat2, folder, path, &raw const how, size_of::<libc::open_how>())
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(opened as libc::c_int) })
}
