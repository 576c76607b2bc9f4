//! Ctrl-C and SIGTERM. The first one asks the running work to stop in good order, a second one ends
//! the process at once.

use std::io::{self, Read};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI32, Ordering};

use hybrid::{Cancel, Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static CANCEL: LazyLock<Cancel> = LazyLock::new(Cancel::new);
/// The first signal that came; 0: none.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

/// From now on signals are caught. Whoever calls this must pass on [`cancel`] or call [`check`]
/// often.
pub fn catch() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if CAUGHT.swap(signal, Ordering::SeqCst) == 0 {
                CANCEL.raise();
            } else {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
    Ok(())
}

/// The flag that the first signal raises.
pub fn cancel() -> Cancel {
    CANCEL.clone()
}

/// [`Error::Cancelled`] once a signal has come.
pub fn check() -> Result<()> {
    CANCEL.check()
}

/// The exit status of a process that a signal has stopped, as shells have it.
pub fn status() -> Option<u8> {
    let signal = CAUGHT.load(Ordering::SeqCst);
    u8::try_from(signal).ok().filter(|signal| *signal != 0).map(|signal| 128 + signal)
}

/// Reads what `R` reads until a signal comes.
pub struct Interruptible<R>(pub R);

impl<R: Read> Read for Interruptible<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check().map_err(|_: Error| io::Error::other("interrupted"))?;
        self.0.read(buffer)
    }
}
