//! A saved session and saved corrections, under a right checksum.

use hybrid::session::{CorrectionOptions, Session};

use crate::{Target, small};

pub const SESSION: Target = Target {
    name: "state",
    run: |input| check(input, saved, |session, state| session.restore(state)),
    seeds: || vec![body(&saved(&begun())), body(&saved(&small::session()))],
    words: &["\u{0}\u{0}\u{0}\u{0}", "\u{1}\u{0}\u{0}\u{0}", "<|endoftext|>"],
    longest: 32 << 10,
};

pub const CORRECTIONS: Target = Target {
    name: "corrections",
    run: |input| check(input, Session::save_corrections, Session::restore_corrections),
    seeds: correction_seeds,
    words: &["\u{0}\u{0}\u{0}\u{0}", "\u{1}\u{0}\u{0}\u{0}"],
    longest: 16 << 10,
};

/// Magic, version and fingerprint.
const HEADER: usize = 4 + 4 + 32;
const CHECKSUM: usize = 32;

fn begun() -> Session {
    let mut session = small::session();
    session.prompt("he said: ").unwrap();
    session.step().unwrap();
    session
}

fn with_corrections() -> Session {
    let mut session = begun();
    session.set_corrections(CorrectionOptions { capacity: 100, suffix: 4 }).unwrap();
    session
}

fn saved(session: &Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    session.save(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

fn body(sealed: &[u8]) -> Vec<u8> {
    sealed[HEADER..sealed.len() - CHECKSUM].to_vec()
}

/// What is refused changes nothing, and what is taken can be used.
fn check(
    input: &[u8],
    save: impl Fn(&Session) -> Vec<u8>,
    restore: impl Fn(&mut Session, &[u8]) -> hybrid::Result<()>,
) {
    let mut session = with_corrections();
    let before = save(&session);
    let mut sealed = before[..HEADER].to_vec();
    sealed.extend(input);
    sealed.extend(blake3::hash(&sealed).as_bytes());
    for bytes in [input, &sealed] {
        if restore(&mut session, bytes).is_err() {
            assert!(save(&session) == before, "a refused state changed something");
        }
    }
    if save(&session).len() > HEADER {
        let _ = session.step();
        session.reset();
        session.prompt("he").unwrap();
        session.step().unwrap();
    }
}

/// Written by hand: suffix, number, and for each one candidate, context and answer.
fn correction_seeds() -> Vec<Vec<u8>> {
    let words = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    vec![
        words(&[4, 0]),
        words(&[4, 1, 7, 4, 1, 2, 3, 4, 2, 8, 9]),
        words(&[4, 2, 7, 1, 1, 1, 8, 9, 4, 4, 3, 2, 1, 3, 5, 6, 7]),
    ]
}
