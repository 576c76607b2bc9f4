//! Everything that was logged in this process, at every level.

use std::sync::{Mutex, Once};

use log::{LevelFilter, Log, Metadata, Record};

static RECORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The process-wide log.
pub struct Logs;

impl Logs {
    /// From now on all records are kept.
    pub fn capture() -> Logs {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            log::set_logger(&Logs).expect("no other logger");
            log::set_max_level(LevelFilter::Trace);
        });
        Logs
    }

    pub fn records(&self) -> Vec<String> {
        RECORDS.lock().expect("the log").clone()
    }
}

impl Log for Logs {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        RECORDS.lock().expect("the log").push(format!(
            "{} {} {}",
            record.level(),
            record.target(),
            record.args()
        ));
    }

    fn flush(&self) {}
}
