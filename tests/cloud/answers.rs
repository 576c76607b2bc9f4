//! What is sent, what is taken from the answer, and how failures are told apart.

use super::*;
use support::Response;

#[test]
fn a_consult_is_answered() {
    let server = always(|| Reaction::json(200, PARIS));
    let (answer, cost) = consult(&client(&server), "Köln ".as_bytes(), PLENTY);
    let answer = answer.unwrap();
    assert_eq!((answer.continuation, answer.end), (bytes(" Paris"), false));
    assert_eq!((cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens), (5, 4, 1));

    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(request.path, "/v1/completions");
    // Nothing that a strict server would refuse.
    assert_eq!(
        request.text(),
        r#"{"model":"big","prompt":"Köln ","max_tokens":3,"temperature":0}"#
    );
    let sent = (request.header.len() + request.body.len()) as u64;
    assert!(cost.bytes_sent > sent, "TLS is counted too: {} for {sent}", cost.bytes_sent);
    assert!(cost.bytes_received > PARIS.len() as u64);
}

#[test]
fn llama_cpp_is_asked_in_its_own_way() {
    let server = always(|| {
        Reaction::json(
            200,
            r#"{"content":" Paris","tokens":[],"stop_type":"eos","tokens_predicted":2,
                "tokens_evaluated":5,"timings/cache_n":3}"#,
        )
    });
    let options = CloudOptions { server: ServerKind::LlamaCpp, ..options(&server) };
    let (answer, cost) = consult(&Cloud::new(options).unwrap(), b"is", PLENTY);
    let answer = answer.unwrap();
    assert_eq!((answer.continuation, answer.end), (bytes(" Paris"), true));
    assert_eq!((cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens), (5, 3, 2));
    let request = &server.requests()[0];
    assert_eq!(request.path, "/completion");
    assert_eq!(
        (&request.json()["prompt"], &request.json()["n_predict"]),
        (&"is".into(), &3.into())
    );
}

#[test]
fn an_end_may_come_as_empty_text() {
    let server =
        always(|| Reaction::json(200, r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#));
    let answer = ask(&client(&server)).unwrap();
    assert_eq!((answer.continuation, answer.end), (bytes(""), true));
}

#[test]
fn a_chunked_answer_is_read() {
    let server =
        always(|| Reaction::Answer(Response { chunked: true, ..Response::json(200, PARIS) }));
    assert_eq!(ask(&client(&server)).unwrap().continuation, bytes(" Paris"));
}

#[test]
fn a_context_that_ends_within_a_character_is_not_sent() {
    let server = always(|| Reaction::json(200, PARIS));
    let (answer, cost) = consult(&client(&server), b"Caf\xc3", PLENTY);
    assert_eq!(answer.unwrap_err(), Failure::UnsafeBoundary);
    assert_eq!((cost.bytes_sent, server.connections()), (0, 0));
}

#[test]
fn every_status_has_its_failure() {
    let rows = [
        (204, Failure::Status),
        (302, Failure::Status),
        (400, Failure::Status),
        (401, Failure::Unauthorized),
        (403, Failure::Unauthorized),
        (404, Failure::Status),
        (429, Failure::Busy),
        (500, Failure::Status),
        (503, Failure::Busy),
    ];
    for (status, failure) in rows {
        // A body that would be an answer must not be taken for one.
        let server = always(move || Reaction::json(status, if status == 204 { "" } else { PARIS }));
        assert_eq!(ask(&client(&server)).unwrap_err(), failure, "{status}");
        assert_eq!(server.requests().len(), 1, "{status} must not be tried again");
    }
}

fn with_headers(status: u16, headers: &[(&'static str, &str)]) -> Reaction {
    let mut response = Response::json(status, r#"{"error":"slow down"}"#);
    response.header.extend(headers.iter().map(|&(name, value)| (name, value.to_owned())));
    Reaction::Answer(response)
}

/// Nobody waits within a consult; what the server asked for is handed on.
#[test]
fn busy_is_not_waited_for() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let rows = [
        (429, vec![("retry-after", "30")], 30),
        (503, vec![("Retry-After", "7")], 7),
        (500, vec![("retry-after", "7")], 7),
        (429, vec![], 0),
        (429, vec![("retry-after", "soon")], 0),
        (429, vec![date, ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], 60),
    ];
    for (status, headers, seconds) in rows {
        let given = headers.clone();
        let server = always(move || with_headers(status, &given));
        let begun = Instant::now();
        let (answer, cost) = consult(&client(&server), b"x", PLENTY);
        assert!(answer.is_err() && begun.elapsed() < Duration::from_secs(5));
        assert_eq!((cost.quiet, cost.http_status), (Duration::from_secs(seconds), status));
    }
}

/// One answer is enough to keep every session from asking.
#[test]
fn the_breaker_keeps_the_quiet_that_a_server_asks_for() {
    let server = always(|| with_headers(429, &[("retry-after", "30")]));
    let cloud = client(&server);
    let breaker = Consult::breaker(&cloud).unwrap();
    let mut asked = 0;
    for _session in 0..3 {
        for _step in 0..3 {
            let Some(permit) = breaker.admit() else { continue };
            let (answer, cost) = consult(&cloud, b"x", PLENTY);
            permit.record(answer.map(drop), cost.quiet);
            asked += 1;
        }
    }
    assert_eq!((asked, server.requests().len()), (1, 1));
    let wait = cloud.breaker_report().retry_in;
    assert!((25..=38).contains(&wait.as_secs()), "{wait:?}");
}

/// A captive portal answers the handshake with a page, a wrong port with something else.
#[test]
fn what_is_no_tls_is_told_apart_from_a_wrong_certificate() {
    let plain = Server::start(&Identity::plain(), |_| Reaction::json(200, PARIS));
    assert_eq!(ask(&client(&plain)).unwrap_err(), Failure::NotTls);
    assert_eq!(plain.requests().len(), 0, "nothing may be sent");
}

#[test]
fn users_see_why_a_consult_failed() {
    let logs = support::Logs::capture();
    let rows = [
        (401, "status 401"),
        (402, "status 402: the account needs money"),
        (404, "status 404: wrong path or model"),
        (413, "status 413: the context is too long"),
        (500, "status 500: the server is in trouble"),
    ];
    for (status, text) in rows {
        let server = always(move || Reaction::json(status, "{}"));
        let (answer, cost) = consult(&client(&server), b"x", PLENTY);
        assert!(answer.is_err());
        assert_eq!(cost.http_status, status);
        let warned = |line: &String| line.starts_with("WARN") && line.contains(text);
        assert!(logs.records().iter().any(warned), "{text}: {:?}", logs.records());
    }
}

/// What is not needed may be missing, or of any kind.
#[test]
fn fields_that_are_not_needed_do_not_matter() {
    let choice = r#""choices":[{"text":" Paris","finish_reason":"length","#;
    let rows = [
        format!(r#"{{{choice}"logprobs":{{"content":[{{"token":"x"}}]}}}}],"usage":7}}"#),
        format!(r#"{{{choice}"token_ids":[-1]}}],"usage":{{"prompt_tokens":null}}}}"#),
        format!(r#"{{{choice}"index":null}}],"usage":{{"prompt_tokens":5.0}}}}"#),
        format!(r#"{{{choice}"logprobs":"no"}}],"usage":{{"prompt_tokens":"5"}}}}"#),
        format!(r#"{{{choice}"x":1}}],"usage":{{"prompt_tokens":9223372036854775808}}}}"#),
    ];
    for (row, body) in rows.into_iter().enumerate() {
        let server = always(move || Reaction::json(200, &body));
        let (answer, cost) = consult(&client(&server), b"is", PLENTY);
        assert_eq!(answer.unwrap().continuation, bytes(" Paris"), "row {row}");
        assert_eq!(cost.prompt_tokens, if row == 2 { 5 } else { 0 }, "row {row}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let other = always(|| Reaction::json(200, PARIS));
    let target = other.url();
    let server = always(move || {
        let mut response = Response::json(307, "{}");
        response.header.push(("location", format!("{target}/v1/completions")));
        Reaction::Answer(response)
    });
    assert_eq!(ask(&client(&server)).unwrap_err(), Failure::Status);
    assert_eq!(other.connections(), 0);
}

#[test]
fn an_answer_that_is_none_is_a_protocol_failure() {
    let rows = [
        "",
        "<html>Welcome</html>",
        "{}",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"text":null}]}"#,
        r#"{"error":{"message":"in a 200"}}"#,
        // No token and no end.
        r#"{"choices":[{"text":"","finish_reason":"length"}]}"#,
        // A part of a character.
        "{\"choices\":[{\"text\":\"\u{fffd}\",\"finish_reason\":\"length\"}]}",
    ];
    for body in rows {
        let server = always(move || Reaction::json(200, body));
        assert_eq!(ask(&client(&server)).unwrap_err(), Failure::Protocol, "{body}");
    }
    let deep = "[".repeat(100_000);
    let server = always(move || Reaction::json(200, &deep));
    assert_eq!(ask(&client(&server)).unwrap_err(), Failure::Protocol);
}

#[test]
fn a_failed_answer_is_counted_too() {
    let server = always(|| {
        Reaction::json(200, r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":0}}"#)
    });
    let (answer, cost) = consult(&client(&server), b"x", PLENTY);
    assert_eq!(answer.unwrap_err(), Failure::Protocol);
    assert_eq!(cost.prompt_tokens, 7);
    assert!(cost.bytes_sent > 0 && cost.bytes_received > 0 && !cost.elapsed.is_zero());
}

#[test]
fn garbage_is_a_protocol_failure() {
    let mut headers = b"HTTP/1.1 200 OK\r\n".to_vec();
    headers.extend((0..1000).flat_map(|i| format!("x-{i}: y\r\n").into_bytes()));
    headers.extend(b"content-length: 2\r\n\r\n{}");
    let mut long_header = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    long_header.extend([b'y'; 200_000]);
    let rows = [
        b"\x00\x01\x02 garbage\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(),
        headers,
        long_header,
    ];
    for bytes in rows {
        let shown = String::from_utf8_lossy(&bytes[..12]).into_owned();
        let server = always(move || Reaction::Bytes(bytes.clone()));
        assert_eq!(ask(&client(&server)).unwrap_err(), Failure::Protocol, "{shown}");
    }
}

#[test]
fn a_huge_answer_is_not_read_to_its_end() {
    let server = always(|| {
        let text = "x".repeat(16 << 20);
        Reaction::json(200, &format!(r#"{{"choices":[{{"text":"{text}"}}]}}"#))
    });
    let (answer, cost) = consult(&client(&server), b"x", PLENTY);
    assert_eq!(answer.unwrap_err(), Failure::Protocol);
    assert!(cost.bytes_received < 2 << 20, "{}", cost.bytes_received);
}
