//! A conversation is saved and restored.

use proptest::prelude::*;

use super::*;

fn saved(session: &Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    session.save(&mut |piece| bytes.extend_from_slice(piece));
    assert_eq!(bytes.len(), session.state_bytes());
    bytes
}

/// What a session would write from here on.
fn rest(mut session: Session) -> (Vec<u32>, String, End) {
    let rest =
        if session.conversation.end == End::None { steps(&mut session, 12) } else { Vec::new() };
    let text = text_of(&rest) + &session.flush();
    (session.tokens().to_vec(), text, session.conversation.end)
}

/// In the middle of whatever: a burst, a character, a stop string, a peek; at an end; with and
/// without the state after a candidate, greedy and drawn.
#[test]
fn a_restored_session_goes_on_alike() {
    type Way = fn(&mut Session);
    let ways: [(&str, Way); 7] = [
        ("nothing", |_| ()),
        ("a prompt", |s| s.prompt("Hello").unwrap()),
        ("a token", |s| drop((s.prompt(">").unwrap(), s.step().unwrap()))),
        ("a peek", |s| drop((s.prompt(">").unwrap(), s.step().unwrap(), s.peek().unwrap()))),
        ("tokens", |s| drop((s.prompt(">>").unwrap(), steps(s, 7)))),
        ("a rewind", |s| drop((s.prompt(">").unwrap(), steps(s, 7), s.rewind(3).unwrap()))),
        ("the end", |s| drop((s.prompt(">").unwrap(), steps(s, 100)))),
    ];
    let burst = FakeCloud::new(true, always(ids(&[byte(0xE2), byte(0x82), byte(0xAC)])));
    for (name, way) in ways {
        for (after, temperature, cloud) in
            [(false, 0.0, None), (true, 0.0, None), (true, 1.0, None), (true, 1.0, Some(&burst))]
        {
            let mut bench = Bench::new(spelling(1, "né 😀!xyz"));
            (bench.after, bench.cloud) = (after, cloud.cloned());
            bench.score = Arc::new(|f| (hash(&[f.candidate]) % 4) as f32 / 3.0);
            bench.options.seed = 3;
            bench.sampling.temperature = temperature;
            bench.options.stop_strings = vec!["!xyz?".into()];
            bench.consult.burst = 3;
            let mut session = bench.session();
            way(&mut session);
            let mut other = bench.session();
            other.prompt("something else").unwrap();
            other.step().unwrap();
            other.restore(&saved(&session)).unwrap();
            assert_eq!(saved(&other), saved(&session), "{name}");
            if !session.is_empty() {
                assert_eq!(rest(other), rest(session), "{name}, {after}, {temperature}");
            }
        }
    }
}

#[test]
fn a_chat_goes_on() {
    let mut bench = Bench::new(spelling(8, "hi"));
    bench.template = Some("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}");
    let user = |content: &str| Message { role: "user".into(), content: content.into() };
    let mut session = bench.session();
    session.chat(&[user("a")]).unwrap();
    steps(&mut session, 2);
    let mut other = bench.session();
    other.restore(&saved(&session)).unwrap();
    for session in [&mut session, &mut other] {
        session.chat(&[user("b")]).unwrap();
    }
    assert_eq!(other.tokens(), session.tokens());
    session.rewind(3).unwrap();
    assert_eq!(saved(&session).len(), session.state_bytes());
}

#[test]
fn what_cannot_be_restored_changes_nothing() {
    let bench = Bench::new(endless());
    let mut long = bench.session();
    long.prompt(&">".repeat(20)).unwrap();
    let state = saved(&long);
    let mut session = Bench { capacity: 10, ..Bench::new(endless()) }.prompted();
    session.step().unwrap();
    let before = saved(&session);
    let full = session.restore(&state);
    assert!(matches!(full, Err(Error::ContextFull { used: 0, needed: 20, limit: 10 })));
    for len in 0..state.len() {
        assert!(matches!(session.restore(&state[..len]), Err(Error::InvalidArgument(_))), "{len}");
    }
    assert_eq!(saved(&session), before);
    let mut other = Bench { model: [7; 32], ..Bench::new(endless()) }.prompted();
    let error = other.restore(&before).unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid argument: a session's state cannot be read: it belongs to another model"
    );
}

proptest! {
    /// States that lie, with a right checksum: an error that changes nothing, or a session that
    /// works.
    #[test]
    fn lies_do_no_harm(at in 0..400usize, bytes in prop::collection::vec(any::<u8>(), 1..6)) {
        let mut bench = Bench::new(endless());
        bench.options.stop_strings = vec!["xy".into()];
        let mut session = bench.prompted();
        steps(&mut session, 9);
        let mut state = saved(&session);
        let sealed = state.len() - 32;
        let at = 40 + at % (sealed - 40);
        for (to, from) in state[at..sealed].iter_mut().zip(bytes) {
            *to = from;
        }
        let checksum = blake3::hash(&state[..sealed]);
        state[sealed..].copy_from_slice(checksum.as_bytes());
        let mut other = bench.prompted();
        let before = saved(&other);
        match other.restore(&state) {
            Err(_) => prop_assert_eq!(saved(&other), before),
            Ok(()) => {
                for _ in 0..20 {
                    let _ = other.step();
                }
                other.flush();
                other.rewind(other.len()).unwrap();
            }
        }
    }
}
