//! Connections: kept, replaced once when they are stale, and never anything else tried again.

use super::*;
use support::Response;

#[test]
fn one_connection_serves_many_consults() {
    let server = always(|| Reaction::json(200, PARIS));
    let cloud = client(&server);
    for _ in 0..5 {
        ask(&cloud).unwrap();
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 5));
}

/// Header and body of a request travel together, on a new connection and on a kept one.
#[test]
fn a_request_arrives_as_a_whole() {
    let server = always(|| Reaction::json(200, PARIS));
    let cloud = client(&server);
    let small = || consult(&cloud, &[b'x'; 1000], PLENTY).0.unwrap();
    (0..3).for_each(|_| drop(small()));
    let reads: Vec<usize> = server.requests().iter().map(|request| request.reads).collect();
    assert_eq!(reads, [1, 1, 1]);
    // More than TLS queues.
    let large = vec![b'x'; 300 << 10];
    consult(&cloud, &large, PLENTY).0.unwrap();
    assert_eq!(server.requests()[3].json()["prompt"].as_str().unwrap().as_bytes(), large);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_later_consult_is_cheaper_than_the_first() {
    let server = always(|| Reaction::json(200, PARIS));
    let cloud = client(&server);
    let first = consult(&cloud, b"x", PLENTY).1;
    let later = consult(&cloud, b"x", PLENTY).1;
    assert!(later.bytes_sent < first.bytes_sent, "{later:?} {first:?}");
    assert!(later.bytes_received < first.bytes_received, "{later:?} {first:?}");
}

#[test]
fn a_connection_closed_while_idle_is_replaced() {
    let server = always(|| Reaction::AnswerThenClose(Response::json(200, PARIS)));
    let cloud = client(&server);
    for _ in 0..3 {
        ask(&cloud).unwrap();
    }
    assert_eq!((server.connections(), server.requests().len()), (3, 3));
}

/// The server closes at the moment when the next request is under way.
#[test]
fn a_connection_closed_under_a_request_is_replaced_once() {
    let server =
        Server::start(&Identity::good(), |request| match (request.connection, request.turn) {
            (0, 1) => Reaction::Close,
            _ => Reaction::json(200, PARIS),
        });
    let cloud = client(&server);
    ask(&cloud).unwrap();
    ask(&cloud).unwrap();
    let seen: Vec<_> = server.requests().iter().map(|r| (r.connection, r.turn)).collect();
    assert_eq!(seen, [(0, 0), (0, 1), (1, 0)]);
}

/// A request that goes out twice is billed twice: it is counted.
#[test]
fn requests_are_counted() {
    let server =
        Server::start(&Identity::good(), |request| match (request.connection, request.turn) {
            (0, 1) => Reaction::Close,
            _ => Reaction::json(200, PARIS),
        });
    let cloud = client(&server);
    let requests = [(); 3].map(|()| consult(&cloud, b"x", PLENTY).1.requests);
    assert_eq!(requests, [1, 2, 1]);
    assert_eq!(requests.iter().sum::<u32>() as usize, server.requests().len());
}

/// An answer that nobody has asked for is not the answer to the next question, wherever it waits:
/// in the same read, in a part of a TLS record, or in the socket.
#[test]
fn an_unsolicited_answer_is_dropped() {
    let another = PARIS.replace("Paris", "London");
    let good = || Response::json(200, PARIS).bytes();
    let bad = Response::json(200, &another).bytes();
    let rows = [[good(), bad.clone()].concat(), [good(), bad[..20].to_vec()].concat()];
    for (row, both) in rows.into_iter().enumerate() {
        let server = Server::start(&Identity::good(), move |request| match request.connection {
            0 => Reaction::Raw(both.clone()),
            _ => Reaction::json(200, PARIS),
        });
        let cloud = client(&server);
        for turn in 0..3 {
            let continuation = ask(&cloud).map(|answer| answer.continuation);
            assert_eq!(continuation, Ok(bytes(" Paris")), "row {row}, turn {turn}");
        }
        assert_eq!(server.connections(), 2, "row {row}");
    }
}

#[test]
fn a_new_connection_that_fails_is_not_tried_again() {
    let server =
        Server::start(&Identity::good(), |request| match (request.connection, request.turn) {
            (0, 0) => Reaction::json(200, PARIS),
            _ => Reaction::Close,
        });
    let cloud = client(&server);
    ask(&cloud).unwrap();
    // Stale, replaced once, and closed again.
    assert_eq!(ask(&cloud).unwrap_err(), Failure::Connect);
    assert_eq!(server.requests().len(), 3);
    // Fresh: a single request.
    assert_eq!(ask(&cloud).unwrap_err(), Failure::Connect);
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn an_answer_cut_short_is_a_lost_connection() {
    let whole = Response::json(200, PARIS).bytes();
    for cut in [5, 30, whole.len() - 1] {
        let part = whole[..cut].to_vec();
        let server = always(move || Reaction::Bytes(part.clone()));
        assert_eq!(ask(&client(&server)).unwrap_err(), Failure::Connect, "after {cut} bytes");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn nobody_listens() {
    let server = always(|| Reaction::Close);
    let options = options(&server);
    drop(server);
    let (answer, cost) = consult(&Cloud::new(options).unwrap(), b"x", PLENTY);
    assert_eq!(answer.unwrap_err(), Failure::Connect);
    assert_eq!((cost.bytes_sent, cost.requests, cost.http_status), (0, 0, 0));
}

#[test]
fn a_name_that_does_not_exist() {
    let server = always(|| Reaction::Close);
    let options = CloudOptions { url: "https://no-such-host.invalid".into(), ..options(&server) };
    let failure = consult(&Cloud::new(options).unwrap(), b"x", PLENTY).0.unwrap_err();
    // Without a network, some resolvers ask for longer than the deadline.
    assert!(matches!(failure, Failure::Connect | Failure::Timeout), "{failure}");
}

#[test]
fn sessions_ask_at_the_same_time() {
    let server = always(|| Reaction::json(200, PARIS));
    let cloud = client(&server);
    std::thread::scope(|scope| {
        let asks: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..3).all(|_| ask(&cloud).is_ok()))).collect();
        for ask in asks {
            assert!(ask.join().unwrap());
        }
    });
    assert_eq!(server.requests().len(), 24);
}

/// Runs another test of this file as a child whose environment names a proxy that does not exist.
#[test]
fn proxy_variables_are_ignored() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "answers::a_consult_is_answered"]);
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        child.env(name, "http://127.0.0.1:1").env(name.to_lowercase(), "http://127.0.0.1:1");
    }
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
