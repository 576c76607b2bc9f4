//! Progress on a terminal's stderr, one line whatever its width; nothing where there is none.

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
        Bytes(bar("{msg:10} {wide_bar} {bytes}/{total_bytes} {eta}", what, total))
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
        Steps(bar("{msg:10} {wide_bar} {pos}/{len} {eta}", what, total))
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

fn bar(template: &str, what: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    // Templates are constants, so this only falls back if indicatif changes its syntax.
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_message(what).with_style(style)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// A terminal that keeps the widest line written to it.
    #[derive(Debug, Clone)]
    struct Terminal {
        width: u16,
        widest: Arc<Mutex<usize>>,
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            self.width
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            let mut widest = self.widest.lock().unwrap();
            *widest = text.chars().count().max(*widest);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_fits_the_terminal() {
        for width in [40, 80, 200] {
            let widest = Arc::new(Mutex::new(0));
            let terminal = Terminal { width, widest: widest.clone() };
            let target = || ProgressDrawTarget::term_like(Box::new(terminal.clone()));
            let bytes = Bytes::new("trying out", 1_117_320_768);
            bytes.0.set_draw_target(target());
            bytes.add(1_017_320_768);
            bytes.0.tick();
            let steps = Steps::new("trying out", 1_000_000);
            steps.0.set_draw_target(target());
            steps.add(999_999);
            steps.0.tick();
            let widest = *widest.lock().unwrap();
            let width = usize::from(width);
            assert!((width - 8..=width).contains(&widest), "{widest} of {width} columns");
        }
    }
}
