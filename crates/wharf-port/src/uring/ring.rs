//! The pair of rings shared with the kernel: opened and probed, filled, entered, emptied.
//!
//! What an entry means, and whose it is, is not known here.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};

use super::pace::GATHERING;
use crate::Time;

/// Completion entries for each submission entry: repeating operations yield many for one.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;
/// How often an enter that the kernel cut short is tried again before its caller goes on.
const ENTER_TRIES: usize = 4;

/// The submission and the completion ring.
pub(super) struct Ring {
    uring: IoUring,
    /// Entries for which the ring had no room even after a submission; older than none in it.
    overflow: VecDeque<squeue::Entry>,
    /// Flags of an enter that sleeps, besides those of its deadline.
    sleep_flags: EnterFlags,
    /// Linux 6.12: deadlines may be points on `CLOCK_MONOTONIC` in place of durations, and a sleep
    /// may wait for several completions and then for less.
    pub(super) absolute: bool,
    /// System calls made, ever.
    pub(super) enters: u64,
}

/// Whether an enter sleeps until something completes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sleep {
    No,
    Until(Option<Time>),
    /// Until so many have completed beside what is submitted; once [`GATHERING`] has passed, until
    /// one has.
    Several(u32, Option<Time>),
}

impl Ring {
    /// Opens a ring of at least `submissions` entries and makes sure that the kernel has what this
    /// backend needs.
    ///
    /// Any part may be refused alone: `io_uring_setup` by a seccomp profile or by the sysctl
    /// `kernel.io_uring_disabled`, the flags by a kernel older than 6.1, `io_uring_register` and
    /// `io_uring_enter` by another seccomp profile. Each error says which.
    pub(super) fn open(submissions: u32) -> io::Result<Ring> {
        let uring = set_up(submissions.max(8))?;
        require_features(&uring)?;
        require_operations(&uring)?;
        let mut sleep_flags = EnterFlags::GETEVENTS;
        if uring.params().is_feature_no_iowait() {
            // A port that waits for its peers does not wait for a disk; say so to the statistics.
            sleep_flags |= EnterFlags::NO_IOWAIT;
        }
        // The absolute timer came with the same release as this feature.
        let absolute = uring.params().is_feature_min_timeout();
        let mut ring = Ring { uring, overflow: VecDeque::new(), sleep_flags, absolute, enters: 0 };
        ring.require_enter()?;
        Ok(ring)
    }

    /// Sends one no-op through the kernel, so that a denied `io_uring_enter` is noticed.
    fn require_enter(&mut self) -> io::Result<()> {
        // SAFETY: a no-op refers to no memory.
        unsafe { self.push(&opcode::Nop::new().build()) };
        self.enter(Sleep::Until(Some(Time::FAR)))
            .map_err(|error| refused("io_uring_enter was refused", error))?;
        let mut entries = [MaybeUninit::uninit(); 1];
        match self.completions(&mut entries) {
            [nop] if nop.result() == 0 => Ok(()),
            _ => Err(io::Error::other("io_uring_enter did not perform a no-op")),
        }
    }

    /// Whether the kernel knows an operation that this backend can do without.
    pub(super) fn supports(&self, code: u8) -> bool {
        let mut probe = Probe::new();
        let probed = self.uring.submitter().register_probe(&mut probe);
        probed.is_ok() && probe.is_supported(code)
    }

    /// The ring as the registering calls want it.
    pub(super) fn registrar(&self) -> io_uring::Submitter<'_> {
        self.uring.submitter()
    }

    /// Entries that the submission ring has room for in all.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.uring.params().sq_entries() as usize
    }

    /// Adds an entry, to be submitted by the next [`enter`](Ring::enter) at the latest.
    ///
    /// # Safety
    /// What the entry refers to stays valid, and unused by others where the kernel writes, until
    /// its final completion.
    #[inline(always)]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        if self.overflow.is_empty() {
            // SAFETY: the caller's promise.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
        }
        // A copy, so that one that fits is made where it belongs.
        self.push_to_full(entry.clone());
    }

    #[cold]
    fn push_to_full(&mut self, entry: squeue::Entry) {
        self.overflow.push_back(entry);
        self.enters += 1;
        // A failure here is the next enter's to report; the entries are kept.
        if self.uring.submit().is_ok() {
            self.refill();
        }
    }

    /// Moves entries that waited for room into the ring.
    fn refill(&mut self) {
        let mut queue = self.uring.submission();
        while let Some(entry) = self.overflow.front() {
            // SAFETY: the promise made to the `push` that brought this entry.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.overflow.pop_front();
        }
    }

    /// How many entries wait for submission.
    pub(super) fn submissions(&mut self) -> usize {
        self.uring.submission().len() + self.overflow.len()
    }

    /// Whether completions wait to be taken.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Takes completions, as many as there are and as `entries` has room for.
    #[inline]
    pub(super) fn completions<'a>(
        &mut self,
        entries: &'a mut [MaybeUninit<cqueue::Entry>],
    ) -> &'a [cqueue::Entry] {
        self.uring.completion().fill(entries)
    }

    /// Submits what is pending, performs the work that the kernel deferred and, if asked to,
    /// sleeps until at least one completion is there. Returning early is no error: of a signal, of
    /// the deadline, or of a kernel that is short of memory and wants completions taken first.
    pub(super) fn enter(&mut self, sleep: Sleep) -> io::Result<()> {
        for _ in 0..ENTER_TRIES {
            if !self.overflow.is_empty() {
                self.refill();
            }
            let pending = self.uring.submission().len();
            self.enters += 1;
            match self.enter_once(pending as u32, sleep) {
                // The kernel waits only when it has taken every entry.
                Ok(taken) if taken < pending && !self.has_completions() => continue,
                Ok(_) if self.overflow.is_empty() => return Ok(()),
                Ok(_) if self.has_completions() => return Ok(()),
                Ok(_) => continue,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ETIME) => return Ok(()),
                    // Memory is short, or completions must be taken before more is submitted.
                    Some(libc::EBUSY | libc::EAGAIN) if self.has_completions() => return Ok(()),
                    Some(libc::EBUSY | libc::EAGAIN) => std::thread::yield_now(),
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn enter_once(&mut self, pending: u32, sleep: Sleep) -> io::Result<usize> {
        let submitter = self.uring.submitter();
        let (want, flags, until) = match sleep {
            // Deferred work is only done by an enter that asks for events.
            Sleep::No => (0, EnterFlags::GETEVENTS, None),
            Sleep::Until(until) => (1, self.sleep_flags, until.filter(|until| *until < Time::FAR)),
            Sleep::Several(count, until) => {
                (pending + count, self.sleep_flags, Some(until.unwrap_or(Time::FAR)))
            }
        };
        let Some(until) = until else {
            // SAFETY: no argument is passed; the kernel checks the rest.
            return unsafe { submitter.enter::<libc::sigset_t>(pending, want, flags.bits(), None) };
        };
        let (nanos, clock) = if self.absolute {
            (until.as_nanos().saturating_add(crate::time::origin()), EnterFlags::ABS_TIMER)
        } else {
            (until.since(Time::monotonic()).as_nanos() as u64, EnterFlags::empty())
        };
        let deadline =
            Timespec::new().sec(nanos / 1_000_000_000).nsec((nanos % 1_000_000_000) as u32);
        let mut arguments = SubmitArgs::new().timespec(&deadline);
        if matches!(sleep, Sleep::Several(..)) {
            arguments = arguments.min_wait_usec(GATHERING.as_micros() as u32);
        }
        let flags = flags | EnterFlags::EXT_ARG | clock;
        // SAFETY: EXT_ARG wants just such arguments, and they outlive the call.
        unsafe { submitter.enter(pending, want, flags.bits(), Some(&arguments)) }
    }
}

fn set_up(submissions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(submissions.saturating_mul(COMPLETIONS_PER_SUBMISSION));
    let plain = builder.clone();
    builder.setup_no_sqarray();
    let result = match builder.build(submissions) {
        // Linux before 6.6 does not know the last flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain.build(submissions),
        other => other,
    };
    result.map_err(|error| {
        let what = match error.raw_os_error() {
            Some(libc::EPERM) => {
                "io_uring_setup was refused, by a seccomp profile or kernel.io_uring_disabled"
            }
            Some(libc::ENOSYS) => "the kernel has no io_uring_setup, or a profile hides it",
            Some(libc::EINVAL) => {
                "io_uring_setup refused SINGLE_ISSUER and DEFER_TASKRUN, which need Linux 6.1"
            }
            Some(libc::ENOMEM) => {
                "io_uring_setup had too little memory it may lock: raise RLIMIT_MEMLOCK, or lower \
                 the count of submissions or of ports"
            }
            Some(libc::EMFILE | libc::ENFILE) => "io_uring_setup had no file descriptor left",
            _ => "io_uring_setup failed",
        };
        refused(what, error)
    })
}

fn require_features(uring: &IoUring) -> io::Result<()> {
    let params = uring.params();
    let required = [
        (params.is_feature_nodrop(), "NODROP"),
        (params.is_feature_ext_arg(), "EXT_ARG"),
        (params.is_feature_fast_poll(), "FAST_POLL"),
        (params.is_feature_submit_stable(), "SUBMIT_STABLE"),
        (params.is_feature_skip_cqe_on_success(), "CQE_SKIP"),
    ];
    match required.iter().find(|(there, _)| !there) {
        None => Ok(()),
        Some((_, name)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this kernel's io_uring lacks the feature {name}"),
        )),
    }
}

fn require_operations(uring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    uring
        .submitter()
        .register_probe(&mut probe)
        .map_err(|error| refused("io_uring_register was refused", error))?;
    let required = [
        (opcode::AcceptMulti::CODE, "ACCEPT"),
        (opcode::Recv::CODE, "RECV"),
        (opcode::Send::CODE, "SEND"),
        (opcode::SendMsg::CODE, "SENDMSG"),
        (opcode::Splice::CODE, "SPLICE"),
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    ];
    match required.iter().find(|(code, _)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((_, name)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this kernel's io_uring lacks the operation {name}"),
        )),
    }
}

/// What was refused, and the system's word on it.
#[derive(Debug)]
struct Refused {
    what: &'static str,
    error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// An error of the same kind that says what was refused; its source still has the errno.
pub(super) fn refused(what: &'static str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Refused { what, error })
}
