//! A proxy on 127.0.0.1 that opens tunnels, or does not.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// For connections that nobody closes.
const LIFE: Duration = Duration::from_secs(30);

pub struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Answers every request with `answer`, a status line, and opens the tunnel if it says 200.
    pub fn start(answer: &'static str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (seen, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (requests, stopped) = (seen.clone(), stop.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Relaxed) {
                    return;
                }
                let requests = requests.clone();
                // A client or server that goes away is no error of the proxy.
                thread::spawn(move || drop(serve(stream, answer, &requests)));
            }
        });
        Proxy { port, seen, stop, thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The headers of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("requests").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Wakes the thread up.
        let _ = TcpStream::connect(self.address());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, answer: &str, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    stream.set_read_timeout(Some(LIFE))?;
    let mut client = BufReader::new(stream);
    let mut header = String::new();
    while !header.ends_with("\r\n\r\n") && client.read_line(&mut header)? > 0 {}
    seen.lock().expect("requests").push(header.clone());
    client.get_mut().write_all(format!("{answer}\r\nvia: test\r\n\r\n").as_bytes())?;
    if !answer.contains(" 200") {
        return Ok(());
    }
    let server = TcpStream::connect(header.split(' ').nth(1).unwrap_or_default())?;
    server.set_read_timeout(Some(LIFE))?;
    let (mut up, mut back) = (server.try_clone()?, client.get_ref().try_clone()?);
    let mut down = server;
    let upwards = thread::spawn(move || {
        let _ = io::copy(&mut client, &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut down, &mut back);
    let _ = back.shutdown(Shutdown::Both);
    let _ = upwards.join();
    Ok(())
}
