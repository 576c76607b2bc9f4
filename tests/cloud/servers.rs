//! Where servers are, what they want to be sent, and which wire formats they have.

use super::*;
use hybrid::cloud::{CloudOptions, Exchange};
use hybrid::consult::Chat;
use hybrid::tokens::Message;
use support::{Proxy, Toy};

fn with(server: &Server, change: impl FnOnce(&mut CloudOptions)) -> Cloud {
    let mut options = options(server);
    change(&mut options);
    Cloud::new(options).expect("a client")
}

#[test]
fn a_base_path_and_a_query_are_kept() {
    let rows = [
        ("", "/v1/completions"),
        ("/api/v1", "/api/v1/completions"),
        ("/openai/v1/?api-version=2", "/openai/v1/completions?api-version=2"),
    ];
    for (path, want) in rows {
        let server = always(|| Reaction::json(200, PARIS));
        let cloud = with(&server, |options| options.url += path);
        ask(&cloud).unwrap();
        assert_eq!(server.requests()[0].path, want);
    }
}

#[test]
fn extra_headers_are_sent() {
    let server = always(|| Reaction::json(200, PARIS));
    let headers = [("api-key", "secret 1"), ("X-Organisation", "ours")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let cloud = with(&server, |options| options.headers = headers);
    ask(&cloud).unwrap();
    let header = server.requests()[0].header.to_lowercase();
    assert!(header.contains("api-key: secret 1\r\n"), "{header}");
    assert!(header.contains("x-organisation: ours\r\n"), "{header}");
}

/// As docs/security.md says: nothing tells one device from another.
#[test]
fn nothing_else_is_sent() {
    let server = always(|| Reaction::json(200, PARIS));
    ask(&with(&server, |options| options.token = Some("t".into()))).unwrap();
    let request = &server.requests()[0];
    let lines = request.header.lines().filter_map(|line| line.split_once(": "));
    let mut names: Vec<String> = lines.map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    let known = ["accept", "authorization", "content-length", "content-type", "host", "user-agent"];
    assert_eq!(names, known);
    let json = request.json();
    let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["model", "prompt", "max_tokens", "temperature"]);
}

#[test]
fn a_proxy_opens_a_tunnel() {
    let server = always(|| Reaction::json(200, PARIS));
    let proxy = Proxy::start("HTTP/1.1 200 Connection established");
    let address = proxy.address();
    let cloud = with(&server, |options| options.proxy = Some(format!("http://u:p@{address}")));
    for _ in 0..3 {
        ask(&cloud).unwrap();
    }
    let target = server.url().replace("https://", "");
    let requests = proxy.requests();
    assert_eq!(requests.len(), 1, "the tunnel is kept");
    let want = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    );
    assert_eq!(requests[0], want);
    assert_eq!((server.connections(), server.requests().len()), (1, 3));
}

/// Behind a proxy the server is judged as ever.
#[test]
fn a_proxy_is_not_trusted() {
    let proxy = Proxy::start("HTTP/1.1 200 OK");
    let address = format!("http://{}", proxy.address());
    let server = Server::start(&Identity::wrong_ca(), |_| Reaction::json(200, PARIS));
    let cloud = with(&server, |options| options.proxy = Some(address));
    assert_eq!(ask(&cloud).unwrap_err(), Failure::Tls);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_proxy_that_refuses_is_no_connection() {
    let server = always(|| Reaction::json(200, PARIS));
    for answer in ["HTTP/1.1 407 Proxy Authentication Required", "SSH-2.0-OpenSSH", ""] {
        let proxy = Proxy::start(answer);
        let address = format!("http://{}", proxy.address());
        let cloud = with(&server, |options| options.proxy = Some(address));
        let (result, cost) = consult(&cloud, b"x", PLENTY);
        assert_eq!((result.unwrap_err(), cost.requests), (Failure::Connect, 0), "{answer}");
    }
    assert_eq!(server.connections(), 0);
}

const ANSWER: &str = "As far as I remember, the capital of France is Par";

/// A chat server that does `answers` with the assistant's last message.
fn chat_server(
    path: &'static str,
    answers: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Server {
    Server::start(&Identity::good(), move |request| {
        if request.path != path {
            return Reaction::json(404, "{}");
        }
        let body = request.json();
        let last = body["messages"].as_array().unwrap().last().unwrap().clone();
        let begun =
            if last["role"] == "assistant" { last["content"].as_str().unwrap() } else { "" };
        let message = serde_json::json!({
            "choices": [{ "message": { "content": answers(begun) }, "finish_reason": "length" }]
        });
        Reaction::json(200, &message.to_string())
    })
}

fn chat(cloud: &Cloud, answer: &str) -> Result<Answer, Failure> {
    let messages = [Message { role: "user".into(), content: "Capital of France?".into() }];
    let (cancel, deadline) = (Cancel::new(), Instant::now() + PLENTY);
    let request = Request {
        ids: &[1],
        vocabulary: "",
        bytes: b"<user>Capital of France?<assistant>",
        chat: Some(Chat { messages: &messages, answer }),
        max_tokens: 3,
        deadline,
        cancel: &cancel,
    };
    cloud.consult(&request).0
}

const CHATS: [ServerKind; 3] =
    [ServerKind::ChatContinue, ServerKind::ChatPrefix, ServerKind::ChatTrailing];

#[test]
fn chats_are_continued() {
    for kind in CHATS {
        let server = chat_server("/v1/chat/completions", |_| "is.".into());
        let cloud = with(&server, |options| options.server = kind);
        assert!(cloud.needs_messages());
        let exchange = cloud.probe(&Toy::new(), &Cancel::new()).unwrap();
        assert_eq!(exchange, Exchange::Messages, "{kind:?}");
        assert_eq!(chat(&cloud, "It is Par").unwrap().continuation, bytes("is."), "{kind:?}");
        // Plain text cannot be asked about, and nothing is sent.
        let before = server.requests().len();
        assert_eq!(ask(&cloud).unwrap_err(), Failure::NeedsMessages);
        assert_eq!(server.requests().len(), before);
    }
}

#[test]
fn a_repeated_beginning_is_cut_off() {
    let server = chat_server("/v1/chat/completions", |begun| format!("{begun}is."));
    let cloud = with(&server, |options| options.server = ServerKind::ChatPrefix);
    cloud.probe(&Toy::new(), &Cancel::new()).unwrap();
    assert_eq!(chat(&cloud, "Par").unwrap().continuation, bytes("is."));
    // Without a probe, only what is surely a repetition.
    let cloud = with(&server, |options| options.server = ServerKind::ChatPrefix);
    assert_eq!(chat(&cloud, ANSWER).unwrap().continuation, bytes("is."));
}

/// Small models go on with the word in their way.
#[test]
fn a_word_may_be_continued_otherwise() {
    for answer in [|begun: &str| format!("{begun}ís."), |_: &str| "ís.".to_owned()] {
        let server = chat_server("/v1/chat/completions", answer);
        let cloud = with(&server, |options| options.server = ServerKind::ChatTrailing);
        assert_eq!(cloud.probe(&Toy::new(), &Cancel::new()).unwrap(), Exchange::Messages);
        assert_eq!(chat(&cloud, "It is Par").unwrap().continuation, bytes("ís."));
    }
    let server = chat_server("/v1/chat/completions", |begun| format!("{begun} The capital"));
    let cloud = with(&server, |options| options.server = ServerKind::ChatTrailing);
    assert!(cloud.probe(&Toy::new(), &Cancel::new()).is_err());
}

/// Gateways drop the flag silently: the text would be quietly wrong.
#[test]
fn a_server_that_begins_afresh_is_refused() {
    for answer in ["The capital of France is Paris.", "Paris", "", "As far as I know: Paris"] {
        for kind in CHATS {
            let server = chat_server("/v1/chat/completions", |_| answer.into());
            let cloud = with(&server, |options| options.server = kind);
            let error = cloud.probe(&Toy::new(), &Cancel::new()).unwrap_err().to_string();
            assert!(error.contains("instead of continuing"), "{error}");
            let before = server.requests().len();
            assert_eq!(chat(&cloud, "Par").unwrap_err(), Failure::Protocol);
            assert_eq!(server.requests().len(), before, "it is not asked any more");
        }
    }
}

#[test]
fn anthropic_is_asked_in_its_own_way() {
    let server = always(|| {
        Reaction::json(200, r#"{"content":[{"type":"text","text":"is"}],"stop_reason":"x"}"#)
    });
    let cloud = with(&server, |options| {
        options.server = ServerKind::Anthropic;
        options.token = Some("key".into());
    });
    assert_eq!(chat(&cloud, "Par").unwrap().continuation, bytes("is"));
    let request = &server.requests()[0];
    let header = request.header.to_lowercase();
    assert_eq!(request.path, "/v1/messages");
    assert!(header.contains("x-api-key: key\r\n") && header.contains("anthropic-version: "));
    assert!(!header.contains("authorization"), "{header}");
}

#[test]
fn the_wire_format_is_found() {
    let found = |server: &Server| {
        let cloud = with(server, |options| options.server = ServerKind::Auto);
        assert_eq!(cloud.server(), ServerKind::Auto);
        cloud.probe(&Toy::new(), &Cancel::new()).map(|exchange| (cloud.server(), exchange))
    };
    let only = |path: &'static str, body: &'static str| {
        Server::start(&Identity::good(), move |request| match request.path == path {
            true => Reaction::json(200, body),
            false => Reaction::json(404, "{}"),
        })
    };
    let rows = [
        ("/completion", r#"{"content":"is","stop_type":"limit"}"#, ServerKind::LlamaCpp),
        ("/generate", r#"{"text":"is","meta_info":{}}"#, ServerKind::SgLang),
        ("/v1/completions", PARIS, ServerKind::OpenAi),
    ];
    for (path, body, kind) in rows {
        assert_eq!(found(&only(path, body)).unwrap(), (kind, Exchange::Bytes));
    }
    let messages = chat_server("/v1/chat/completions", |_| "is".into());
    assert_eq!(found(&messages).unwrap(), (ServerKind::ChatContinue, Exchange::Messages));

    let exact = Server::start(&Identity::good(), |request| {
        let answer = r#"{"content":"x","tokens":[120],"stop_type":"limit"}"#;
        let other = || match request.path.as_str() {
            "/completion" => Reaction::json(200, answer),
            _ => Reaction::json(404, "{}"),
        };
        Toy::new().answer(request).unwrap_or_else(other)
    });
    assert_eq!(found(&exact).unwrap(), (ServerKind::LlamaCpp, Exchange::Ids));

    for page in ["<html>Welcome</html>", "{}", r#"{"error":"no"}"#] {
        let error = found(&always(move || Reaction::json(200, page))).unwrap_err().to_string();
        assert!(error.contains("none of the known wire formats"), "{error}");
    }
}
