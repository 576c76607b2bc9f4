//! The bearer token goes to the server and nowhere else.

use super::*;
use hybrid::breaker::BreakerState;
use support::Logs;

const TOKEN: &str = "sk-verysecret-0123456789";

fn with_token(server: &Server) -> CloudOptions {
    CloudOptions { token: Some(TOKEN.into()), ..options(server) }
}

#[test]
fn it_is_sent() {
    let server = always(|| Reaction::json(200, PARIS));
    ask(&Cloud::new(with_token(&server)).unwrap()).unwrap();
    let header = server.requests()[0].header.to_lowercase();
    assert!(header.contains(&format!("authorization: bearer {TOKEN}")), "{header}");
}

#[test]
fn without_one_no_header_is_sent() {
    let server = always(|| Reaction::json(200, PARIS));
    ask(&client(&server)).unwrap();
    assert!(!server.requests()[0].header.to_lowercase().contains("authorization"));
}

/// On a live client, which a wrong token has made stop asking.
#[test]
fn it_can_be_replaced() {
    let server = Server::start(&Identity::good(), |request: &Recorded| {
        let header = request.header.to_lowercase();
        match header.contains(&format!("authorization: bearer {TOKEN}")) {
            true => Reaction::json(200, PARIS),
            false => Reaction::json(401, "{}"),
        }
    });
    let cloud = client(&server);
    let breaker = Consult::breaker(&cloud).unwrap();
    let asked = || {
        let permit = breaker.admit()?;
        let answer = ask(&cloud);
        permit.record(answer.as_ref().map(|_| ()).map_err(|failure| *failure), Duration::ZERO);
        Some(answer.map(|_| ()))
    };
    assert_eq!(asked(), Some(Err(Failure::Unauthorized)));
    assert_eq!((asked(), cloud.breaker_report().state), (None, BreakerState::Open));
    assert!(cloud.set_token(Some("a b")).is_err());
    assert_eq!((asked(), cloud.breaker_report().failures), (None, 1), "the old one stays");
    cloud.set_token(Some(TOKEN)).unwrap();
    assert_eq!((asked(), cloud.breaker_report().state), (Some(Ok(())), BreakerState::Closed));
    cloud.set_token(None).unwrap();
    assert_eq!(asked(), Some(Err(Failure::Unauthorized)));
    cloud.reset_breaker();
    assert_eq!(asked(), Some(Err(Failure::Unauthorized)), "asked again");
}

#[test]
fn it_is_in_no_log_record_error_or_debug_text() {
    let logs = Logs::capture();
    let mut texts = Vec::new();
    let vocabulary = support::Toy::new();
    // A server may repeat the token in its answer.
    let echo = format!(r#"{{"error":{{"message":"bad key {TOKEN}"}}}}"#);
    let reactions: [fn(&str) -> Reaction; 4] = [
        |_| Reaction::json(200, PARIS),
        |echo| Reaction::json(401, echo),
        |echo| Reaction::json(500, echo),
        |echo| Reaction::json(200, echo),
    ];
    for reaction in reactions {
        let echo = echo.clone();
        let server = always(move || reaction(&echo));
        let options = with_token(&server);
        texts.push(format!("{options:?} {options:#?}"));
        let cloud = Cloud::new(options).unwrap();
        texts.push(format!("{cloud:?} {:?}", ask(&cloud)));
        texts.push(format!("{:?}", cloud.probe(&vocabulary, &Cancel::new())));
    }
    let untrusted = Server::start(&Identity::wrong_ca(), |_| Reaction::Close);
    let cloud = Cloud::new(with_token(&untrusted)).unwrap();
    texts.push(format!("{:?} {:?}", ask(&cloud), cloud.probe(&vocabulary, &Cancel::new())));
    let invalid = CloudOptions { token: Some(format!("{TOKEN}\n")), ..with_token(&untrusted) };
    let error = Cloud::new(invalid).unwrap_err().to_string();
    assert!(error.contains("line end"), "{error}");
    texts.push(error);

    let records = logs.records();
    assert!(records.iter().any(|r| r.contains("status 401")), "the client's records must be there");
    for text in texts.iter().chain(&records) {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn neither_prompt_nor_answer_is_logged() {
    let logs = Logs::capture();
    let server = always(|| Reaction::json(400, r#"{"error":"cannot read: my diary"}"#));
    let failure = consult(&client(&server), b"my diary", PLENTY).0.unwrap_err();
    assert_eq!(failure, Failure::Status);
    assert!(logs.records().iter().any(|r| r.contains("status 400")));
    assert!(!logs.records().iter().any(|r| r.contains("my diary")));
}
