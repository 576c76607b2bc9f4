//! Log messages
//!
//! The library is silent until a callback is set, and never writes to standard output or standard
//! error. Messages carry no prompt text, no generated text and no access token.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::sync::{OnceLock, RwLock};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::boundary::enter;
use super::fault::{Fault, Result};
use super::numbers::{Number, values};
use super::status::hybrid_status;
use crate::error::Error;

/// How detailed messages are, from nothing to everything.
/// cbindgen:rename-all=None
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_log_level {
    /// No messages.
    HYBRID_LOG_OFF = 0,
    /// Something does not work.
    HYBRID_LOG_ERROR = 1,
    /// Something is not as it should be; the library copes.
    HYBRID_LOG_WARN = 2,
    /// Events such as an opened model.
    HYBRID_LOG_INFO = 3,
    /// What a developer of firmware may want.
    HYBRID_LOG_DEBUG = 4,
    /// What a developer of the library may want.
    HYBRID_LOG_TRACE = 5,
}
use hybrid_log_level::*;

values!(hybrid_log_level {
    HYBRID_LOG_OFF,
    HYBRID_LOG_ERROR,
    HYBRID_LOG_WARN,
    HYBRID_LOG_INFO,
    HYBRID_LOG_DEBUG,
    HYBRID_LOG_TRACE,
});

/// Gets one message. `text` is borrowed until the callback returns. The library calls it on the
/// thread that is inside the library or on that of a consult, and on several at once if there are
/// several. See the chapter *Callbacks*.
pub type hybrid_log_callback = Option<
    unsafe extern "C" fn(level: Number<hybrid_log_level>, text: *const c_char, user: *mut c_void),
>;

/// Sends messages of `level` and more urgent ones to `callback`, for the whole process. It replaces
/// the callback that was set before. HYBRID_LOG_OFF turns messages off; `callback` may then be
/// NULL.
///
/// `user` is passed through. It must stay valid until the callback is replaced. When this function
/// has returned, the old callback is not running and is never called again. HYBRID_ERR_BUSY: called
/// from a log callback. HYBRID_ERR_STATE: the process already has a Rust logger.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_set_log(
    level: Number<hybrid_log_level>,
    callback: hybrid_log_callback,
    user: *mut c_void,
) -> hybrid_status {
    enter(|| {
        let filter = level.get::<LevelFilter>("level")?;
        let sink = match (filter, callback) {
            (LevelFilter::Off, _) => None,
            (_, None) => return Err(Fault::Null("callback")),
            (_, Some(callback)) => Some(Sink { callback, user }),
        };
        install(filter, sink)
    })
}

struct Sink {
    callback: unsafe extern "C" fn(Number<hybrid_log_level>, *const c_char, *mut c_void),
    user: *mut c_void,
}

// SAFETY: header rule *Callbacks*: a log callback and its `user` serve any thread.
unsafe impl Send for Sink {}
// SAFETY: as above, several at once.
unsafe impl Sync for Sink {}

/// What the `log` crate calls; the sink behind it can be changed, the logger only set once.
struct Bridge {
    sink: RwLock<Option<Sink>>,
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

fn install(filter: LevelFilter, sink: Option<Sink>) -> Result<()> {
    static BRIDGE: Bridge = Bridge { sink: RwLock::new(None) };
    static INSTALLED: OnceLock<bool> = OnceLock::new();

    if IN_CALLBACK.get() {
        return Err(Fault::Busy);
    }
    if sink.is_none() && INSTALLED.get().is_none() {
        return Ok(());
    }
    if !INSTALLED.get_or_init(|| log::set_logger(&BRIDGE).is_ok()) {
        let text = "the process already has a Rust logger; read libhybrid's messages there";
        return Err(Fault::Core(Error::State(text.into())));
    }
    // Waits for messages under way; a panic of an earlier holder cannot have broken an Option.
    *BRIDGE.sink.write().unwrap_or_else(|e| e.into_inner()) = sink;
    log::set_max_level(filter);
    Ok(())
}

impl Log for Bridge {
    /// Only our own messages: those of the network and graph crates may quote what they handle.
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("hybrid")
    }

    fn log(&self, record: &Record) {
        // A callback that calls the library and makes it log must not wait for itself.
        if !self.enabled(record.metadata()) || IN_CALLBACK.get() {
            return;
        }
        let sink = self.sink.read().unwrap_or_else(|e| e.into_inner());
        if let Some(sink) = sink.as_ref() {
            IN_CALLBACK.set(true);
            sink.send(record);
            IN_CALLBACK.set(false);
        }
    }

    fn flush(&self) {}
}

impl Sink {
    fn send(&self, record: &Record) {
        let text = CString::new(record.args().to_string().replace('\0', " ")).unwrap_or_default();
        // SAFETY: header rule *Callbacks*: callable from any thread with the caller's `user`.
        unsafe { (self.callback)(Number::of(record.level()), text.as_ptr(), self.user) };
    }
}

impl From<hybrid_log_level> for LevelFilter {
    fn from(level: hybrid_log_level) -> LevelFilter {
        match level {
            HYBRID_LOG_OFF => LevelFilter::Off,
            HYBRID_LOG_ERROR => LevelFilter::Error,
            HYBRID_LOG_WARN => LevelFilter::Warn,
            HYBRID_LOG_INFO => LevelFilter::Info,
            HYBRID_LOG_DEBUG => LevelFilter::Debug,
            HYBRID_LOG_TRACE => LevelFilter::Trace,
        }
    }
}

impl From<Level> for hybrid_log_level {
    fn from(level: Level) -> hybrid_log_level {
        match level {
            Level::Error => HYBRID_LOG_ERROR,
            Level::Warn => HYBRID_LOG_WARN,
            Level::Info => HYBRID_LOG_INFO,
            Level::Debug => HYBRID_LOG_DEBUG,
            Level::Trace => HYBRID_LOG_TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::sync::Mutex;

    use super::*;
    use crate::ffi::status::*;

    type Seen = Mutex<Vec<(hybrid_log_level, String)>>;

    unsafe extern "C" fn collect(
        level: Number<hybrid_log_level>,
        text: *const c_char,
        user: *mut c_void,
    ) {
        // SAFETY: the test's own mutex and the library's string.
        let (seen, text) = unsafe { (&*user.cast::<Seen>(), CStr::from_ptr(text)) };
        seen.lock().unwrap().push((level.known().unwrap(), text.to_str().unwrap().to_owned()));
        // Logging and resetting from inside are harmless.
        log::error!(target: "hybrid::test", "from within");
        let off = Number::of(HYBRID_LOG_OFF);
        // SAFETY: no pointers.
        let inner = unsafe { hybrid_set_log(off, None, std::ptr::null_mut()) };
        assert_eq!(inner, HYBRID_ERR_BUSY);
    }

    /// One test, since the logger is the process's.
    #[test]
    fn messages_reach_the_callback_until_it_is_taken_away() {
        let seen = Seen::default();
        let user = (&raw const seen).cast_mut().cast();
        let set = |level, callback| {
            // SAFETY: `seen` outlives the callback, which the last line takes away.
            unsafe { hybrid_set_log(level, callback, user) }
        };
        assert_eq!(set(Number::raw(6), Some(collect)), HYBRID_ERR_INVALID_ARGUMENT);
        assert_eq!(set(Number::raw(-1), Some(collect)), HYBRID_ERR_INVALID_ARGUMENT);
        assert_eq!(set(Number::of(HYBRID_LOG_INFO), None), HYBRID_ERR_NULL_ARGUMENT);
        assert_eq!(set(Number::of(HYBRID_LOG_OFF), None), HYBRID_OK);

        assert_eq!(set(Number::of(HYBRID_LOG_INFO), Some(collect)), HYBRID_OK);
        log::warn!(target: "hybrid::test", "one\0{}", 1);
        log::debug!(target: "hybrid::test", "too detailed");
        log::error!(target: "elsewhere", "not ours");
        assert_eq!(set(Number::of(HYBRID_LOG_OFF), None), HYBRID_OK);
        log::error!(target: "hybrid::test", "nobody listens");
        assert_eq!(*seen.lock().unwrap(), [(HYBRID_LOG_WARN, "one 1".to_owned())]);
    }
}
