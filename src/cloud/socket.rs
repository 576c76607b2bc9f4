//! The TCP socket under TLS. Every wait is cut into short slices, so that a cancel or the deadline
//! of the running consult ends it; every byte is counted.

use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::slm::kernels::threads;

/// How long a wait may go on before the cancel flag is looked at again.
const SLICE: Duration = Duration::from_millis(25);

/// Addresses of a host tried at most.
const MAX_ADDRESSES: usize = 8;

/// Dial threads alive at most, so that a resolver that hangs does not gather them without end.
const MAX_DIALS: usize = 8;

/// What a name lookup needs, with room to spare.
const DIAL_STACK: usize = 256 << 10;

/// How far the running exchange got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nothing was needed yet: the connection of an earlier exchange is still there.
    Reused,
    Dialling,
    Handshaking,
    /// This exchange opened its connection.
    Opened,
}

/// Limits and counters of the exchange that runs on a connection; set anew for each.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub deadline: Instant,
    pub cancel: Cancel,
    pub stage: Stage,
    pub sent: u64,
    pub received: u64,
    /// Times that a request was sent, or begun to be.
    pub requests: u32,
    /// A byte of it was sent, on the connection of now.
    pub asked: bool,
    /// A byte of an answer arrived (inside TLS).
    pub answered: bool,
}

impl Exchange {
    fn new(deadline: Instant, cancel: Cancel) -> Self {
        Exchange {
            deadline,
            cancel,
            stage: Stage::Reused,
            sent: 0,
            received: 0,
            requests: 0,
            asked: false,
            answered: false,
        }
    }
}

/// The current [`Exchange`], shared by a connection and whoever uses it.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<Mutex<Exchange>>);

impl Watch {
    pub fn new() -> Self {
        Watch(Arc::new(Mutex::new(Exchange::new(Instant::now(), Cancel::new()))))
    }

    pub fn begin(&self, deadline: Instant, cancel: &Cancel) {
        *self.lock() = Exchange::new(deadline, cancel.clone());
    }

    /// Of a retry: the counters go on.
    pub fn again(&self) {
        self.update(|e| (e.stage, e.asked) = (Stage::Reused, false));
    }

    /// Bytes of a request are about to be sent.
    pub fn ask(&self) {
        self.update(|e| {
            e.requests += u32::from(!e.asked);
            e.asked = true;
        });
    }

    pub fn snapshot(&self) -> Exchange {
        self.lock().clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut Exchange)) {
        change(&mut self.lock());
    }

    /// How long to wait before asking again; an error once the exchange must end.
    fn slice(&self) -> io::Result<Duration> {
        let exchange = self.lock();
        let left = exchange.deadline.saturating_duration_since(Instant::now());
        // Not `Interrupted`: readers would take that for a signal and try again.
        if exchange.cancel.is_raised() {
            Err(io::Error::other("cancelled"))
        } else if left.is_zero() {
            Err(io::Error::other("the deadline passed"))
        } else {
            Ok(left.min(SLICE))
        }
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    watch: Watch,
    records: Records,
}

impl Socket {
    /// From here on TLS is spoken.
    pub fn begin_records(&mut self) {
        self.records = Records::default();
    }

    /// Nothing has arrived since the last answer, neither bytes nor an end, nor a part of what TLS
    /// has not made bytes of yet.
    pub fn is_idle(&self) -> bool {
        self.records.is_between() && self.is_quiet()
    }

    fn is_quiet(&self) -> bool {
        let quiet = || -> io::Result<bool> {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            Ok(peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock))
        };
        quiet().unwrap_or(false)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(self.watch.slice()?))?;
            match self.stream.read(buffer) {
                Err(e) if is_slice_over(&e) => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    self.watch.update(|exchange| exchange.received += n as u64);
                    self.records.read(buffer.get(..n).unwrap_or_default());
                    return Ok(n);
                }
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice]) -> io::Result<usize> {
        loop {
            self.stream.set_write_timeout(Some(self.watch.slice()?))?;
            match self.stream.write_vectored(parts) {
                Err(e) if is_slice_over(&e) => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    self.watch.update(|exchange| exchange.sent += n as u64);
                    return Ok(n);
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Where TLS records begin and end in what was received.
#[derive(Debug, Default)]
struct Records {
    header: [u8; 5],
    /// Bytes there are of it.
    begun: usize,
    /// Bytes missing of the record's body.
    missing: usize,
}

impl Records {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.missing > 0 {
                let skipped = self.missing.min(bytes.len());
                self.missing -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            if let Some(slot) = self.header.get_mut(self.begun) {
                *slot = first;
                self.begun += 1;
            }
            if self.begun == self.header.len() {
                let [_, _, _, high, low] = self.header;
                self.missing = u16::from_be_bytes([high, low]).into();
                self.begun = 0;
            }
        }
    }

    fn is_between(&self) -> bool {
        (self.begun, self.missing) == (0, 0)
    }
}

fn is_slice_over(e: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(e.kind(), WouldBlock | TimedOut | Interrupted)
}

/// Opens connections to one host. Looking up a name and connecting cannot be interrupted, so a
/// helper thread does both and ends by itself: at the deadline, or when the system's resolver gives
/// up.
#[derive(Debug)]
pub(super) struct Dialler {
    host: String,
    port: u16,
    running: Arc<AtomicUsize>,
}

impl Dialler {
    pub fn new(host: String, port: u16) -> Self {
        Dialler { host, port, running: Arc::default() }
    }

    pub fn dial(&self, watch: &Watch) -> io::Result<Socket> {
        let running = self.turn(watch)?;
        let (host, port, deadline) = (self.host.clone(), self.port, watch.snapshot().deadline);
        let (answer, wait) = mpsc::sync_channel(1);
        let work = move || {
            let _running = running;
            // Nobody listens any more after a cancel.
            let _ = answer.send(connect(&host, port, deadline));
        };
        threads::spawn("hybrid-dial".into(), DIAL_STACK, work)?;
        loop {
            match wait.recv_timeout(watch.slice()?) {
                Ok(stream) => {
                    let records = Records::default();
                    return Ok(Socket { stream: stream?, watch: watch.clone(), records });
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the dial thread ended without an answer"));
                }
            }
        }
    }

    /// Waits until there are few enough dial threads for one more.
    fn turn(&self, watch: &Watch) -> io::Result<Running> {
        loop {
            if let Some(running) = Running::start(&self.running) {
                return Ok(running);
            }
            thread::sleep(watch.slice()?);
        }
    }
}

/// Counts a dial thread for as long as it lives.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn start(count: &Arc<AtomicUsize>) -> Option<Running> {
        let running = Running(count.clone());
        (count.fetch_add(1, Relaxed) < MAX_DIALS).then_some(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Tries the host's addresses in the resolver's order, each with its share of the time left.
fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.take(MAX_ADDRESSES).collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (i, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - i) as u32;
        if share.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => {
                // A request is one or two writes: waiting to fill a packet would only delay it.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_millis(100);
    const LATE: Duration = Duration::from_secs(20);

    fn watch(time: Duration) -> (Watch, Cancel) {
        let (watch, cancel) = (Watch::new(), Cancel::new());
        watch.begin(Instant::now() + time, &cancel);
        (watch, cancel)
    }

    fn error(result: io::Result<Socket>) -> String {
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_name_is_looked_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialler = Dialler::new("localhost".into(), listener.local_addr().unwrap().port());
        let socket = dialler.dial(&watch(LATE).0).unwrap();
        assert!(socket.is_idle());
        drop(listener.accept().unwrap());
        let gone = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(5));
            !socket.is_idle()
        });
        assert!(gone, "a closed connection is not idle");
    }

    /// However they are cut.
    #[test]
    fn records_have_ends() {
        let bytes = [&[22, 3, 1, 1, 0][..], &[7; 256], &[23, 3, 3, 0, 0], &[23, 3, 3, 0, 1, 9]];
        let bytes = bytes.concat();
        let ends = [0, 261, 266, bytes.len()];
        for size in 1..=bytes.len() {
            let (mut records, mut read) = (Records::default(), 0);
            for part in bytes.chunks(size) {
                records.read(part);
                read += part.len();
                assert_eq!(records.is_between(), ends.contains(&read), "{read} in parts of {size}");
            }
        }
    }

    #[test]
    fn hanging_lookups_are_waited_for_within_limits() {
        let dialler = Dialler::new("127.0.0.1".into(), 1);
        let mut hanging: Vec<_> =
            (0..MAX_DIALS).map(|_| Running::start(&dialler.running).unwrap()).collect();
        assert!(error(dialler.dial(&watch(SOON).0)).contains("deadline"));
        let (cancelled, cancel) = watch(LATE);
        cancel.raise();
        assert!(error(dialler.dial(&cancelled)).contains("cancelled"));

        hanging.pop();
        // Nobody listens there, but it was tried.
        let tried = error(dialler.dial(&watch(LATE).0));
        assert!(!tried.contains("deadline"), "{tried}");
    }
}
