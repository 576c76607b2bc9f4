//! How the library starts a thread: one that takes no signal of the process, and that says of
//! itself whose it is.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle, scope};

thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread of the library: a program's signal handlers never run on it, and its panics are
/// the library's own business, see [`is_ours`].
///
/// Errors: those of [`Builder::spawn`].
pub fn spawn<T: Send + 'static>(
    name: String,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // Threads inherit the mask of the one that starts them.
    let _blocked = BlockedSignals::new();
    Builder::new().name(name).stack_size(stack_bytes).spawn(move || {
        IS_OURS.set(true);
        work()
    })
}

/// Runs `work` on a thread of the library, as [`spawn`] starts it, while `meanwhile` runs on this
/// one. Both have ended when it returns. A panic of either goes on here.
///
/// Errors: those of [`Builder::spawn`]; nothing ran then.
pub fn beside<T: Send, U>(
    name: String,
    stack_bytes: usize,
    work: &(impl Fn() -> T + Sync),
    meanwhile: impl FnOnce() -> U,
) -> io::Result<(T, U)> {
    scope(|scope| {
        let blocked = BlockedSignals::new();
        let thread = Builder::new().name(name).stack_size(stack_bytes);
        let thread = thread.spawn_scoped(scope, || {
            IS_OURS.set(true);
            work()
        })?;
        drop(blocked);
        let meanwhile = meanwhile();
        let worked = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((worked, meanwhile))
    })
}

/// The current thread is one that [`spawn`] or [`beside`] started.
pub fn is_ours() -> bool {
    IS_OURS.get()
}

/// While this lives the current thread takes no signal, and neither do, for good, the threads that
/// it starts. Only what a thread brings upon itself, such as a bad address, still arrives.
struct BlockedSignals {
    before: libc::sigset_t,
}

const OWN_FAULTS: [i32; 6] =
    [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];

impl BlockedSignals {
    fn new() -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(signal: i32) -> bool {
        let mut now = MaybeUninit::uninit();
        // SAFETY: without a new set the call only writes the present one, for which there is room.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), now.as_mut_ptr()) };
        // SAFETY: written by the call above.
        unsafe { libc::sigismember(now.as_ptr(), signal) == 1 }
    }

    #[test]
    fn a_thread_of_ours_takes_no_signals() {
        let signals = [libc::SIGTERM, libc::SIGALRM, libc::SIGUSR1, libc::SIGSEGV];
        let before = signals.map(blocks);
        let seen = spawn("hybrid-test".into(), 64 << 10, move || (signals.map(blocks), is_ours()));
        assert_eq!(seen.unwrap().join().unwrap(), ([true, true, true, false], true));
        assert_eq!((signals.map(blocks), is_ours()), (before, false), "the caller's are as before");
    }

    #[test]
    fn two_work_side_by_side() {
        let (there, here) = (std::sync::Barrier::new(2), std::cell::Cell::new(0));
        let work = || {
            there.wait();
            (is_ours(), blocks(libc::SIGTERM))
        };
        let meanwhile = || {
            there.wait();
            here.set(7);
            is_ours()
        };
        let (worked, other) = beside("hybrid-test".into(), 64 << 10, &work, meanwhile).unwrap();
        assert_eq!((worked, other, here.get()), ((true, true), false, 7));
        assert!(!blocks(libc::SIGTERM), "the caller takes signals as before");
    }

    /// What borrows from the caller has ended, whichever of the two panics.
    #[test]
    fn panics_go_on_when_both_have_ended() {
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        for (in_work, in_meanwhile) in [(true, false), (false, true)] {
            let ended = std::sync::atomic::AtomicUsize::new(0);
            let count = || ended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let act = |panics: bool| {
                count();
                assert!(!panics, "on purpose");
            };
            let both =
                || beside("hybrid-test".into(), 64 << 10, &|| act(in_work), || act(in_meanwhile));
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(both));
            assert!(caught.is_err());
            assert_eq!(ended.load(std::sync::atomic::Ordering::Relaxed), 2);
        }
        std::panic::set_hook(quiet);
    }
}
