//! How much stack the calling thread has left, so that a thread with too little gets an error in
//! place of a signal.

use std::cell::Cell;
use std::mem::MaybeUninit;

use super::fault::{Fault, Result};
use super::inject;

/// What a call that computes takes at most. Opening SmolLM2 takes 65 kB, a step 17 kB; a chat
/// template is let nest until it has taken 128 kB.
const NEEDED: usize = 160 << 10;

thread_local! {
    /// The thread's stack; empty before that is known, and where nobody can tell.
    static STACK: Cell<Stack> = const { Cell::new((0, 0)) };
}

/// Its lowest address, and the one behind it.
type Stack = (usize, usize);

/// Refuses a call that may not fit on the stack of this thread.
pub(super) fn check() -> Result<()> {
    inject::point();
    let here = here();
    if STACK.get() == (0, 0) {
        STACK.set(stack_with(here));
    }
    match left(STACK.get(), here) {
        Some(left) if left < NEEDED => Err(Fault::Stack { left: left >> 10, needed: NEEDED >> 10 }),
        _ => Ok(()),
    }
}

/// Nothing where `here` is on another stack: coroutines and signal handlers bring their own, of
/// which the system knows nothing.
fn left((low, high): Stack, here: usize) -> Option<usize> {
    (low..high).contains(&here).then(|| here - low)
}

/// An address on the stack, near its end.
#[inline(never)]
fn here() -> usize {
    let local = 0u8;
    std::hint::black_box(&raw const local).addr()
}

/// The stack of the thread. In a child process the only thread is the first one, but it is still on
/// the stack of the one that forked.
fn stack_with(here: usize) -> Stack {
    let main = if is_main() { of_main() } else { None };
    main.filter(|stack| left(*stack, here).is_some()).or_else(of_thread).unwrap_or((0, 0))
}

fn is_main() -> bool {
    // SAFETY: no arguments.
    let process = unsafe { libc::getpid() };
    // SAFETY: this call has no arguments.
    libc::c_long::from(process) == unsafe { libc::syscall(libc::SYS_gettid) }
}

/// The first thread's stack, which grows up to a limit. glibc would read a file to say where it is;
/// the program's name, which the system puts above it, tells as well.
fn of_main() -> Option<Stack> {
    // SAFETY: any number may be asked for.
    let high = unsafe { libc::getauxval(libc::AT_EXECFN) } as usize;
    let mut limit = MaybeUninit::uninit();
    // SAFETY: there is room for the answer.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_STACK, limit.as_mut_ptr()) };
    if high == 0 || status != 0 {
        return None;
    }
    // SAFETY: written by the call that succeeded.
    let limit: libc::rlimit = unsafe { limit.assume_init() };
    let size = usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX);
    Some((high.saturating_sub(size).max(1), high))
}

/// The stack of a thread that pthread_create made.
fn of_thread() -> Option<Stack> {
    let mut attributes = MaybeUninit::uninit();
    let (mut low, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the calling thread is one, and there is room for the answer.
    let status = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: the attributes were written by the call that succeeded, and there is room.
    let status =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size) };
    // SAFETY: initialised above, and not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    let low = low.addr();
    (status == 0).then(|| (low.max(1), low.saturating_add(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_thread<T: Send + 'static>(kilobytes: usize, work: fn() -> T) -> T {
        let thread = std::thread::Builder::new().stack_size(kilobytes << 10);
        thread.spawn(work).unwrap().join().unwrap()
    }

    #[test]
    fn little_stack_is_an_error_that_says_how_much_it_takes() {
        for wanted in [64, 128, 256, 8192] {
            // The system may use the larger stack of a thread that has ended.
            let (size, text) = on_thread(wanted, || {
                let (low, high) = of_thread().unwrap();
                (high - low, check().err().map(|fault| fault.to_string()))
            });
            assert!(size >= wanted << 10);
            assert_eq!(text.is_none(), size >= 256 << 10, "{size}: {text:?}");
            assert!(text.is_none_or(|text| text.contains("256 kB")), "{size}");
        }
    }

    /// What is found has this function's own locals on it, and is as large as was asked for.
    #[test]
    fn a_stack_is_where_its_locals_are() {
        let (here, low, high) = on_thread(512, || {
            let (low, high) = of_thread().unwrap();
            (here(), low, high)
        });
        assert!((low..high).contains(&here));
        assert!(high - low >= 512 << 10, "{}", high - low);
    }

    #[test]
    fn an_unknown_stack_is_not_judged() {
        for (here, wanted) in [(99, None), (100, Some(0)), (199, Some(99)), (200, None)] {
            assert_eq!(left((100, 200), here), wanted, "{here}");
        }
    }
}
