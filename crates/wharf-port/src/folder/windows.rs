//! Opening files in Windows' words.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FileBasicInfo, GetFileInformationByHandle,
    GetFileInformationByHandleEx,
};

/// From the start of 1601 to that of 1970, in units of 100 ns.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;
const TICKS_PER_SECOND: i64 = 10_000_000;

pub(super) fn open(path: &Path) -> io::Result<File> {
    // Without the flag a folder cannot be opened.
    OpenOptions::new().read(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)
}

/// Opens a path whose last component is no link.
pub(super) fn open_unlinked(path: &Path) -> io::Result<File> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// When anything of it last changed, and which file it is.
pub(super) fn identity(file: &File, _: &Metadata) -> io::Result<(SystemTime, (u64, u64))> {
    let handle = file.as_raw_handle();
    let mut information = MaybeUninit::<BY_HANDLE_FILE_INFORMATION>::zeroed();
    // SAFETY: the handle is open, and there is room for what is asked.
    if unsafe { GetFileInformationByHandle(handle, information.as_mut_ptr()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was filled; besides, zeroes are values of its integers.
    let information = unsafe { information.assume_init() };
    let index =
        (u64::from(information.nFileIndexHigh) << 32) | u64::from(information.nFileIndexLow);
    let number = (u64::from(information.dwVolumeSerialNumber), index);

    let mut basic = MaybeUninit::<FILE_BASIC_INFO>::zeroed();
    let (place, size) = (basic.as_mut_ptr().cast(), size_of::<FILE_BASIC_INFO>() as u32);
    // SAFETY: the handle is open, and `place` has `size` bytes of room.
    if unsafe { GetFileInformationByHandleEx(handle, FileBasicInfo, place, size) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was filled; besides, zeroes are values of its integers.
    let basic = unsafe { basic.assume_init() };
    Ok((time(basic.ChangeTime), number))
}

/// What is before 1970 is no time that a volume keeps.
fn time(ticks: i64) -> SystemTime {
    let since = u64::try_from(ticks - UNIX_EPOCH_TICKS).unwrap_or(0);
    let (seconds, rest) = (since / TICKS_PER_SECOND as u64, since % TICKS_PER_SECOND as u64);
    let since = Duration::new(seconds, rest as u32 * 100);
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}
