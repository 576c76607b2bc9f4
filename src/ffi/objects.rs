//! Objects
//!
//! The four opaque objects. A `_new` or `_open` function makes one, and its `_free` function frees
//! it, once and in any order: a session keeps what it uses alive.

use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::client::Cloud;
use super::fault::{Fault, Result};
use super::inject;
use super::result::Lent;
use crate::cancel::Cancel;
use crate::session::{Model, Session};

/// A bundle loaded for use. It never changes. Any number of threads and sessions share it.
pub struct hybrid_model {
    pub(super) model: Arc<Model>,
    /// Strings lent by `hybrid_model_describe`.
    pub(super) name: CString,
    pub(super) architecture: CString,
    pub(super) reward_cloud_model: CString,
}

/// A client of one cloud LLM. Any number of threads and sessions share it.
pub struct hybrid_cloud {
    pub(super) cloud: Arc<Cloud>,
}

/// One conversation. Any thread may use it, one call at a time.
pub struct hybrid_session {
    /// Counted, so that a callback that frees its own session cannot pull it from under the call.
    pub(super) cell: Arc<Mutex<Conversation>>,
}

/// A flag that stops calls. Any thread and any signal handler may use it at any time.
pub struct hybrid_cancel {
    pub(super) flag: Cancel,
}

/// A session and what its last call lent to the caller.
pub(super) struct Conversation {
    pub(super) session: Session,
    pub(super) lent: Lent,
}

/// What the header's chapter *Threads* promises.
const _: () = {
    const fn moves<T: Send>() {}
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<hybrid_model>();
    is_shared::<hybrid_cloud>();
    is_shared::<hybrid_cancel>();
    moves::<Conversation>();
};

impl hybrid_session {
    pub(super) fn new(session: Session) -> hybrid_session {
        let conversation = Conversation { session, lent: Lent::default() };
        hybrid_session { cell: Arc::new(Mutex::new(conversation)) }
    }
}

/// Hands an object to the caller, who owns it from now on.
pub(super) fn give<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back and drops it; NULL is nothing.
///
/// # Safety
/// Header rule *Ownership*: `pointer` is NULL or came from [`give`] and was not freed before.
pub(super) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: from `give` and freed once, by the caller's rule *Ownership*.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// Enters an object that serves one call at a time. A call that panics leaves the mutex poisoned,
/// and with it the object, which may be half changed.
pub(super) fn enter_alone<T>(cell: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    match cell.try_lock() {
        Ok(guard) => {
            inject::point();
            Ok(guard)
        }
        Err(TryLockError::WouldBlock) => Err(Fault::Busy),
        Err(TryLockError::Poisoned(_)) => Err(Fault::Poisoned),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{boundary::enter, status};
    use super::*;

    #[test]
    fn overlapping_use_is_busy() {
        let cell = Mutex::new(1);
        let outer = enter(|| {
            let _guard = enter_alone(&cell)?;
            assert_eq!(enter(|| enter_alone(&cell).map(drop)), status::HYBRID_ERR_BUSY);
            Ok(())
        });
        assert_eq!(outer, status::HYBRID_OK);
        assert_eq!(*enter_alone(&cell).unwrap(), 1);
    }

    #[test]
    fn a_panic_poisons_the_object_for_good() {
        let cell = Mutex::new(1);
        let call = || {
            enter(|| {
                let _guard = enter_alone(&cell)?;
                panic!("half changed");
            })
        };
        assert_eq!(call(), status::HYBRID_ERR_PANIC);
        for _ in 0..2 {
            assert!(matches!(enter_alone(&cell), Err(Fault::Poisoned)));
            assert_eq!(call(), status::HYBRID_ERR_PANIC);
        }
    }

    #[test]
    fn freeing_null_is_nothing() {
        // SAFETY: NULL, and an object given once.
        unsafe {
            free::<u32>(std::ptr::null_mut());
            free(give(5u32));
        }
    }
}
