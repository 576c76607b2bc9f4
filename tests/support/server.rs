//! The server: accepts, records the request, asks the script how to react.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hybrid::cloud::Roots;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Identity;

/// No connection lives longer, whatever a test forgets.
const LIFE: Duration = Duration::from_secs(30);
const SLICE: Duration = Duration::from_millis(10);
/// The first byte of a client that speaks TLS to a server that does not.
const TLS_HANDSHAKE: u8 = 0x16;
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Counts connections from 0, and requests on each.
    pub connection: usize,
    pub turn: usize,
    pub path: String,
    /// Reads that it took.
    pub reads: usize,
    /// The header, without the request line.
    pub header: String,
    pub body: Vec<u8>,
}

impl Recorded {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a UTF-8 body")
    }
}

/// How the server reacts to a request.
pub enum Reaction {
    /// Answers and keeps the connection.
    Answer(Response),
    /// Answers, then closes the connection without having announced it.
    AnswerThenClose(Response),
    /// Sends these bytes and keeps the connection.
    Raw(Vec<u8>),
    /// Sends these bytes, then closes.
    Bytes(Vec<u8>),
    /// Sends these bytes one at a time, this far apart, and never ends.
    Dribble(Vec<u8>, Duration),
    /// Closes without a byte.
    Close,
    /// Says nothing.
    Silence,
}

impl Reaction {
    pub fn json(status: u16, body: &str) -> Reaction {
        Reaction::Answer(Response::json(status, body))
    }
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub header: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub chunked: bool,
}

impl Response {
    pub fn json(status: u16, body: &str) -> Response {
        let header = vec![("content-type", "application/json".to_owned())];
        Response { status, header, body: body.as_bytes().to_vec(), chunked: false }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} Status\r\n", self.status).into_bytes();
        for (name, value) in &self.header {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        if self.chunked {
            bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in self.body.chunks(7) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else {
            bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).bytes());
            bytes.extend(&self.body);
        }
        bytes
    }
}

type Script = dyn Fn(&Recorded) -> Reaction + Send + Sync;

/// What a server does before any request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    Normal,
    /// Accepts connections and leaves them alone.
    Mute,
    /// Finishes the handshake, then reads nothing.
    Deaf,
}

struct Shared {
    tls: Option<Arc<ServerConfig>>,
    opening: Opening,
    script: Box<Script>,
    forgets: bool,
    requests: Mutex<Vec<Recorded>>,
    connections: AtomicUsize,
    stop: AtomicBool,
}

/// Runs until dropped.
pub struct Server {
    port: u16,
    ca_pem: String,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(
        identity: &Identity,
        script: impl Fn(&Recorded) -> Reaction + Send + Sync + 'static,
    ) -> Server {
        Server::open(identity, Opening::Normal, false, Box::new(script))
    }

    /// Keeps no request, so that it can run for long.
    pub fn forgetful(
        identity: &Identity,
        script: impl Fn(&Recorded) -> Reaction + Send + Sync + 'static,
    ) -> Server {
        Server::open(identity, Opening::Normal, true, Box::new(script))
    }

    /// Never answers the TLS handshake.
    pub fn mute() -> Server {
        Server::open(&Identity::good(), Opening::Mute, false, Box::new(|_| Reaction::Silence))
    }

    /// Never reads the request.
    pub fn deaf() -> Server {
        Server::open(&Identity::good(), Opening::Deaf, false, Box::new(|_| Reaction::Silence))
    }

    fn open(identity: &Identity, opening: Opening, forgets: bool, script: Box<Script>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("a listener that does not block");
        let shared = Arc::new(Shared {
            tls: identity.tls.clone(),
            opening,
            script,
            forgets,
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let acceptor = {
            let shared = shared.clone();
            thread::spawn(move || accept(&listener, &shared))
        };
        Server { port, ca_pem: identity.ca_pem.clone(), shared, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub fn roots(&self) -> Roots {
        Roots::Pem(self.ca_pem.clone().into_bytes())
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().expect("requests").clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !shared.stop.load(Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let number = shared.connections.fetch_add(1, Relaxed);
                let shared = shared.clone();
                // The stack of one that has ended stays until then.
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread::spawn(move || {
                    // A client that goes away is no error of the server.
                    let _ = Connection::new(stream, shared, number).and_then(Connection::run);
                }));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

struct Connection {
    shared: Arc<Shared>,
    stream: Box<dyn Duplex>,
    number: usize,
    ends: Instant,
}

impl Connection {
    fn new(stream: TcpStream, shared: Arc<Shared>, number: usize) -> io::Result<Connection> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        let stream: Box<dyn Duplex> = match &shared.tls {
            Some(tls) if shared.opening != Opening::Mute => {
                let connection = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(connection, stream))
            }
            _ => Box::new(stream),
        };
        Ok(Connection { shared, stream, number, ends: Instant::now() + LIFE })
    }

    fn run(mut self) -> io::Result<()> {
        match self.shared.opening {
            Opening::Mute => return self.wait(),
            // A flush runs the handshake.
            Opening::Deaf => {
                self.patiently(|stream| stream.flush())?;
                return self.wait();
            }
            Opening::Normal => {}
        }
        for turn in 0.. {
            let Some(request) = self.request(turn)? else { return Ok(()) };
            if !self.shared.forgets {
                self.shared.requests.lock().expect("requests").push(request.clone());
            }
            match (self.shared.script)(&request) {
                Reaction::Answer(response) => self.send(&response.bytes())?,
                Reaction::Raw(bytes) => self.send(&bytes)?,
                Reaction::AnswerThenClose(response) => return self.send(&response.bytes()),
                Reaction::Bytes(bytes) => return self.send(&bytes),
                Reaction::Dribble(bytes, apart) => return self.dribble(&bytes, apart),
                Reaction::Close => return Ok(()),
                Reaction::Silence => return self.wait(),
            }
        }
        Ok(())
    }

    /// `None`: the client closed the connection between two requests.
    fn request(&mut self, turn: usize) -> io::Result<Option<Recorded>> {
        let mut bytes = Vec::new();
        let (mut header_end, mut length, mut reads) = (None, 0, 0);
        while header_end.is_none_or(|end| bytes.len() < end + length) {
            let mut buffer = [0; 16 << 10];
            let n = self.patiently(|stream| stream.read(&mut buffer))?;
            if n == 0 || bytes.len() > MAX_REQUEST_BYTES {
                return Ok(None);
            }
            bytes.extend(&buffer[..n]);
            reads += 1;
            if bytes[0] == TLS_HANDSHAKE {
                self.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")?;
                return Ok(None);
            }
            if header_end.is_none() {
                header_end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
                length = content_length(&bytes[..header_end.unwrap_or(0)]);
            }
        }
        let (head, body) = bytes.split_at(header_end.unwrap_or(0));
        let head = String::from_utf8_lossy(head);
        let (line, header) = head.split_once("\r\n").unwrap_or_default();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let header = header.to_owned();
        let (connection, body) = (self.number, body.to_vec());
        Ok(Some(Recorded { connection, turn, path, reads, header, body }))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.patiently(|stream| stream.write(rest))?;
            rest = &rest[n..];
        }
        self.patiently(|stream| stream.flush())
    }

    fn dribble(&mut self, bytes: &[u8], apart: Duration) -> io::Result<()> {
        for byte in bytes {
            self.send(&[*byte])?;
            thread::sleep(apart);
            self.check()?;
        }
        self.wait()
    }

    fn wait(&self) -> io::Result<()> {
        loop {
            self.check()?;
            thread::sleep(SLICE);
        }
    }

    /// Repeats what only ran out of its slice of time.
    fn patiently<T>(
        &mut self,
        mut act: impl FnMut(&mut dyn Duplex) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.check()?;
            match act(&mut *self.stream) {
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                result => return result,
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.shared.stop.load(Relaxed) || Instant::now() > self.ends {
            return Err(io::Error::other("the server stops"));
        }
        Ok(())
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_lowercase();
    let value = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
