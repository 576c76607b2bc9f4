//! A consult ends at its deadline, or soon after a cancel, whatever the server does.

use super::*;
use support::Response;

const DEADLINE: Duration = Duration::from_millis(300);
/// For a busy machine.
const SLACK: Duration = Duration::from_millis(700);
/// Between two bytes of a slow server: never long enough to look dead.
const APART: Duration = Duration::from_millis(20);

/// Every way to be slow.
fn slow_servers() -> Vec<(&'static str, Server)> {
    let answer = || Response::json(200, PARIS).bytes();
    let header = b"HTTP/1.1 200 OK\r\n";
    vec![
        ("never answers the handshake", Server::mute()),
        ("never reads the request", Server::deaf()),
        ("never answers", always(|| Reaction::Silence)),
        ("dribbles the answer", always(move || Reaction::Dribble(answer(), APART))),
        (
            "dribbles endless fields",
            always(|| Reaction::Dribble(endless(header, b"x: y\r\n"), APART)),
        ),
        (
            "dribbles an endless body",
            always(move || {
                let start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                Reaction::Dribble(endless(start, b"1\r\n \r\n"), APART)
            }),
        ),
        (
            "dribbles the body of an error",
            always(move || {
                let start = b"HTTP/1.1 500 No\r\ncontent-length: 10000\r\n\r\n";
                Reaction::Dribble(endless(start, b"x"), APART)
            }),
        ),
    ]
}

fn endless(start: &[u8], more: &[u8]) -> Vec<u8> {
    [start, &more.repeat(1000)].concat()
}

/// More than the buffers of a loopback connection hold.
fn long_context() -> Vec<u8> {
    vec![b'x'; 16 << 20]
}

#[test]
fn a_slow_server_costs_the_deadline_and_no_more() {
    let context = long_context();
    for (how, server) in slow_servers() {
        let cloud = client(&server);
        let begun = Instant::now();
        let (answer, cost) = consult(&cloud, &context, DEADLINE);
        let took = begun.elapsed();
        let failure = answer.unwrap_err();
        // The status of the error had arrived.
        let known = how.contains("error") && failure == Failure::Status;
        assert!(failure == Failure::Timeout || known, "{how}: {failure}");
        assert!(took >= DEADLINE, "{how}: {took:?}");
        assert!(took < DEADLINE + SLACK, "{how}: {took:?}");
        assert!(cost.elapsed <= took && cost.elapsed >= DEADLINE);
    }
}

#[test]
fn a_cancel_ends_a_running_consult() {
    for (how, server) in slow_servers() {
        let cloud = client(&server);
        let cancel = Cancel::new();
        let context = long_context();
        let begun = Instant::now();
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(DEADLINE);
                cancel.raise();
            });
            let deadline = begun + PLENTY;
            cloud.consult(&request(&context, deadline, &cancel)).0
        });
        let failure = answer.unwrap_err();
        let known = how.contains("error") && failure == Failure::Status;
        assert!(failure == Failure::Cancelled || known, "{how}: {failure}");
        assert!(begun.elapsed() < DEADLINE + SLACK, "{how}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_cancel_of_before_sends_nothing() {
    let server = always(|| Reaction::json(200, PARIS));
    let cancel = Cancel::new();
    cancel.raise();
    let deadline = Instant::now() + PLENTY;
    let (answer, cost) = client(&server).consult(&request(b"x", deadline, &cancel));
    assert_eq!(answer.unwrap_err(), Failure::Cancelled);
    assert_eq!((cost.bytes_sent, server.connections()), (0, 0));
}

#[test]
fn a_deadline_of_before_sends_nothing() {
    let server = always(|| Reaction::json(200, PARIS));
    let (answer, cost) = consult(&client(&server), b"x", Duration::ZERO);
    assert_eq!(answer.unwrap_err(), Failure::Timeout);
    assert_eq!(cost.bytes_sent, 0);
}

#[test]
fn a_consult_after_a_late_one_is_answered() {
    let server = Server::start(&Identity::good(), |request| match request.connection {
        0 => Reaction::Silence,
        _ => Reaction::json(200, PARIS),
    });
    let cloud = client(&server);
    assert_eq!(consult(&cloud, b"x", DEADLINE).0.unwrap_err(), Failure::Timeout);
    assert!(ask(&cloud).is_ok());
}

#[test]
fn a_cancel_ends_a_probe() {
    let server = always(|| Reaction::Silence);
    let (cloud, cancel) = (client(&server), Cancel::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..2000).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                !server.requests().is_empty()
            });
            cancel.raise();
        });
        let error = cloud.probe(&support::Toy::new(), &cancel).unwrap_err();
        assert!(matches!(error, hybrid::Error::Cancelled), "{error}");
    });
    assert_eq!(server.requests().len(), 1);
}

fn request<'a>(bytes: &'a [u8], deadline: Instant, cancel: &'a Cancel) -> Request<'a> {
    Request { ids: &[1], vocabulary: "", bytes, chat: None, max_tokens: 1, deadline, cancel }
}
