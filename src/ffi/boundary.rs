//! The panic boundary of every entry function, and the thread's last error.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread::LocalKey;

use super::fault::{Fault, Result};
use super::status::{self, hybrid_status};
use crate::error::Error;
use crate::slm::kernels::threads;

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
    /// Calls of this thread inside the boundary; callbacks may nest them.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PANIC_TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs one entry function: panics and errors become a status, the text goes to the last error.
pub(super) fn enter(call: impl FnOnce() -> Result<()>) -> hybrid_status {
    silence_caught_panics();
    DEPTH.set(DEPTH.get() + 1);
    // A session that panics poisons its own mutex (see `session`); everything else a call can
    // reach is either untouched or about to be dropped, so no broken state is seen afterwards.
    let outcome = catch_unwind(AssertUnwindSafe(call));
    DEPTH.set(DEPTH.get() - 1);
    let result = outcome.unwrap_or_else(|payload| Err(Fault::Panic(panic_text(&*payload))));
    match result {
        Ok(()) => status::HYBRID_OK,
        Err(fault) => {
            keep(&LAST_ERROR, fault.to_string());
            status_of(&fault)
        }
    }
}

fn status_of(fault: &Fault) -> hybrid_status {
    match fault {
        Fault::Null(_) => status::HYBRID_ERR_NULL_ARGUMENT,
        Fault::Busy => status::HYBRID_ERR_BUSY,
        Fault::TooSmall { .. } => status::HYBRID_ERR_BUFFER_TOO_SMALL,
        Fault::Stack { .. } => status::HYBRID_ERR_STATE,
        Fault::Poisoned | Fault::Panic(_) => status::HYBRID_ERR_PANIC,
        Fault::Core(error) => match error {
            Error::InvalidArgument(_) => status::HYBRID_ERR_INVALID_ARGUMENT,
            Error::InvalidUtf8 { .. } => status::HYBRID_ERR_INVALID_UTF8,
            Error::Io { .. } => status::HYBRID_ERR_IO,
            Error::Bundle(_) => status::HYBRID_ERR_BUNDLE,
            Error::Unsupported(_) => status::HYBRID_ERR_UNSUPPORTED,
            Error::Model(_) => status::HYBRID_ERR_MODEL,
            Error::Template(_) => status::HYBRID_ERR_TEMPLATE,
            Error::ContextFull { .. } => status::HYBRID_ERR_CONTEXT_FULL,
            Error::Cancelled => status::HYBRID_ERR_CANCELLED,
            Error::Cloud(_) => status::HYBRID_ERR_CLOUD,
            Error::State(_) => status::HYBRID_ERR_STATE,
        },
    }
}

/// Like [`enter`] for functions that return nothing.
pub(super) fn enter_void(call: impl FnOnce()) {
    enter(|| {
        call();
        Ok(())
    });
}

pub(super) fn with_last_error<R>(read: impl FnOnce(&str) -> R) -> R {
    read(&kept(&LAST_ERROR))
}

type Text = LocalKey<RefCell<String>>;

/// Nothing where the thread is ending and has dropped the text: a destructor of the program's that
/// runs then may call the library.
fn keep(place: &'static Text, text: String) {
    let _ = place.try_with(|kept| kept.replace(text));
}

fn kept(place: &'static Text) -> String {
    place.try_with(|kept| kept.borrow().clone()).unwrap_or_default()
}

/// What the hook kept; a panic that comes from another thread of ours has passed no hook here.
fn panic_text(payload: &dyn Any) -> String {
    let kept = PANIC_TEXT.try_with(RefCell::take).unwrap_or_default();
    if !kept.is_empty() {
        return kept;
    }
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without text").to_owned()
}

/// The default panic hook writes to stderr, which the library never does. This one keeps the text
/// of panics that the boundary will catch or that end a thread of ours, and passes all others to
/// the hook that was there before.
fn silence_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 && !threads::is_ours() {
                return previous(info);
            }
            let text = info.payload_as_str().unwrap_or("panic without text");
            let place = info.location().map(|at| format!(" ({at})")).unwrap_or_default();
            keep(&PANIC_TEXT, format!("{text}{place}"));
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn last_error() -> String {
        with_last_error(str::to_owned)
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_text() {
        assert_eq!(enter(|| panic!("lost {}", 7)), status::HYBRID_ERR_PANIC);
        assert!(last_error().contains("lost 7"), "{}", last_error());
        assert!(last_error().contains("boundary.rs"), "{}", last_error());
        assert_eq!(DEPTH.get(), 0);
    }

    /// As from a thread of the pool: no hook has seen it on this thread.
    #[test]
    fn a_panic_from_elsewhere_has_its_text() {
        enter(|| panic!("before"));
        for (payload, want) in [
            (Box::new("a text") as Box<dyn Any + Send>, "a text"),
            (Box::new(String::from("another")), "another"),
            (Box::new(7), "panic without text"),
        ] {
            assert_eq!(enter(|| std::panic::resume_unwind(payload)), status::HYBRID_ERR_PANIC);
            assert!(last_error().contains(want), "{}", last_error());
        }
    }

    /// In a process of its own, whose standard error can be read.
    #[test]
    fn threads_of_ours_panic_in_silence() {
        const CHILD: &str = "HYBRID_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            enter(|| Ok(()));
            let ours = threads::spawn("hybrid-test".into(), 256 << 10, || panic!("of the library"));
            assert!(ours.unwrap().join().is_err());
            assert!(std::thread::spawn(|| panic!("the program's")).join().is_err());
            return;
        }
        let name = "ffi::boundary::tests::threads_of_ours_panic_in_silence";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8(child.stderr).unwrap();
        assert!(child.status.success(), "{text}");
        assert!(text.contains("the program's") && !text.contains("of the library"), "{text}");
    }

    #[test]
    fn success_leaves_the_last_error() {
        enter(|| Err(Fault::Null("model")));
        assert_eq!(enter(|| Ok(())), status::HYBRID_OK);
        assert_eq!(last_error(), "model is NULL");
    }

    #[test]
    fn the_last_error_belongs_to_its_thread() {
        enter(|| Err(Fault::Null("model")));
        std::thread::spawn(|| enter(|| Err(Fault::Null("cloud")))).join().unwrap();
        assert_eq!(last_error(), "model is NULL");
    }

    /// A call from the destructor of something thread-local, when the last error is gone already.
    #[test]
    fn a_thread_that_ends_may_call() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert_eq!(enter(|| panic!("late")), status::HYBRID_ERR_PANIC);
                assert_eq!(last_error(), "");
                ENDED.store(true, Ordering::Relaxed);
            }
        }
        static ENDED: AtomicBool = AtomicBool::new(false);
        thread_local!(static LATE: Late = const { Late });
        let thread = std::thread::spawn(|| {
            LATE.with(|_| ());
            enter(|| panic!("early"));
        });
        thread.join().unwrap();
        assert!(ENDED.load(Ordering::Relaxed));
    }

    #[test]
    fn a_panic_in_a_nested_call_stays_there() {
        let status = enter(|| {
            assert_eq!(enter(|| panic!("inner")), status::HYBRID_ERR_PANIC);
            Ok(())
        });
        assert_eq!(status, status::HYBRID_OK);
    }
}
