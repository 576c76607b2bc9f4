//! Which signals the library's threads take: none that is sent to the process.

use std::mem::MaybeUninit;

/// While this lives the current thread takes no signal, and neither do, for good, the threads that
/// it starts: a program's handlers run on the program's own threads. Only what a thread brings upon
/// itself, such as a bad address, still arrives.
pub struct BlockedSignals {
    before: libc::sigset_t,
}

const OWN_FAULTS: [i32; 6] =
    [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];

impl BlockedSignals {
    pub fn new() -> Self {
        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `sigfillset` initialises the set; then it is passed on, with room for the old
        // one.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            for signal in OWN_FAULTS {
                libc::sigdelset(set.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        }
        // SAFETY: with a valid first argument the call cannot fail and has written the old set.
        BlockedSignals { before: unsafe { before.assume_init() } }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: a set that the system gave out; the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}
