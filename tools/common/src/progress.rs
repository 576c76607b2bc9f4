//! Progress on a terminal's stderr; nothing where there is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Turns while something of unknown length goes on. It clears itself when dropped.
pub struct Spinner(ProgressBar);

impl Spinner {
    pub fn new(what: &'static str) -> Spinner {
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar over `total` bytes. It clears itself when dropped.
pub struct Bytes(ProgressBar);

impl Bytes {
    pub fn new(what: &'static str, total: u64) -> Bytes {
        let style = ProgressStyle::with_template(
            "{msg:9} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        );
        let bar = ProgressBar::new(total).with_message(what);
        // The template is a constant, so this only falls back if indicatif changes its syntax.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Bytes(bar)
    }

    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    pub fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar over `total` things. It clears itself when dropped.
pub struct Steps(ProgressBar);

impl Steps {
    pub fn new(what: &'static str, total: u64) -> Steps {
        let style = ProgressStyle::with_template("{msg:9} {bar:40} {pos}/{len} {eta}");
        let bar = ProgressBar::new(total).with_message(what);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Steps(bar)
    }

    pub fn add(&self, steps: u64) {
        self.0.inc(steps);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
