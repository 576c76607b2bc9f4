//! The SLM reads on while a consult is under way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Writes `abcdefgh`, of which the letters in `weak` are weak. The cloud says `answer` once the SLM
/// has been fed `fed` tokens, those before the consult included.
fn bench(weak: &'static str, fed: i64, answer: std::result::Result<Answer, Failure>) -> Bench {
    let mut bench = Bench::new(spelling(1, "abcdefgh"));
    let log = bench.log.clone();
    let script: Script = Arc::new(move |_| {
        wait_until(|| total(&log.lock().unwrap()) >= fed);
        answer.clone()
    });
    bench.cloud = Some(FakeCloud::new(true, script));
    bench.score = Arc::new(move |f| {
        let is_weak = |letter| f.candidate == byte(letter);
        if weak.bytes().any(is_weak) { 0.0 } else { 1.0 }
    });
    bench
}

fn total(log: &[i64]) -> i64 {
    log.iter().filter(|&&batch| batch > 0).sum()
}

fn with_overlap(mut bench: Bench, overlap: u32) -> Bench {
    bench.consult.overlap = overlap;
    bench
}

#[test]
fn what_was_read_meanwhile_is_not_read_again() {
    for after in [false, true] {
        for answer in [ids(&[byte(b'b')]), Err(Failure::Timeout)] {
            let mut bench = with_overlap(bench("b", 5, answer), 3);
            bench.after = after;
            let mut session = bench.prompted();
            assert_eq!(text_of(&steps(&mut session, 2)), "ab");
            assert_eq!(bench.take_log(), [1; 5], "prompt, a, and b to d while the cloud thinks");
            let read = session.stats().local_time + session.stats().overlap_time;
            assert!(session.stats().overlap_time > Duration::ZERO);
            assert_eq!(text_of(&steps(&mut session, 2)), "cd");
            session.peek().unwrap();
            assert_eq!(bench.take_log(), if after { vec![1] } else { vec![] }, "e is scored");
            assert!(session.stats().local_time < read + Duration::from_secs(60));
            assert_eq!(text_of(&steps(&mut session, 9)), "efgh");
        }
    }
}

#[test]
fn what_does_not_stand_is_rewound() {
    let mut bench = with_overlap(bench("b", 5, ids(&[byte(b'X'), byte(b'Y')])), 3);
    bench.consult.burst = 2;
    let mut session = bench.prompted();
    assert_eq!(text_of(&steps(&mut session, 4)), "aXYd");
    assert_eq!(bench.take_log(), [1, 1, 1, 1, 1, -3, 2]);
    // The first of a burst stands, the second does not.
    let mut bench = with_overlap(self::bench("b", 5, ids(&[byte(b'b'), byte(b'Y')])), 3);
    bench.consult.burst = 2;
    let mut session = bench.prompted();
    assert_eq!(text_of(&steps(&mut session, 4)), "abYd");
    assert_eq!(bench.take_log(), [1, 1, 1, 1, 1, -2, 1]);
}

/// At most the tokens asked for, those that fit, and none after the end.
#[test]
fn reading_on_has_limits() {
    for (overlap, capacity, weak, fed) in [(2, 99, "a", 3), (64, 4, "a", 4), (64, 99, "f", 9)] {
        let mut bench = with_overlap(bench(weak, fed, Err(Failure::Busy)), overlap);
        bench.capacity = capacity;
        let mut session = bench.prompted();
        let before = weak.as_bytes()[0] - b'a';
        steps(&mut session, usize::from(before) + 1);
        assert_eq!(total(&bench.take_log()), fed, "{weak}");
        assert_eq!(session.len(), usize::from(before) + 2);
    }
}

/// The second weak token waits for its own turn.
#[test]
fn one_consult_at_a_time() {
    let mut bench = with_overlap(bench("bd", 0, Err(Failure::Status)), 5);
    bench.cloud = Some(FakeCloud::new(true, always(Err(Failure::Status))));
    let mut session = bench.prompted();
    let cloud = bench.cloud.clone().unwrap();
    for (written, calls) in [(2, 1), (1, 1), (1, 2), (4, 2)] {
        steps(&mut session, written);
        assert_eq!(cloud.calls(), calls);
    }
    assert_eq!(session.text(), ">abcdefgh");
}

#[test]
fn an_answer_that_disagrees_stops_the_slm() {
    let bench = with_overlap(bench("a", 0, ids(&[byte(b'X')])), 5);
    let mut session = bench.prompted();
    bench.stuck.store(true, Relaxed);
    assert_eq!(session.step().unwrap().text, "X");
    bench.stuck.store(false, Relaxed);
    assert_eq!(text_of(&steps(&mut session, 9)), "bcdefgh");
}

#[test]
fn a_cancel_ends_both() {
    let mut bench = with_overlap(bench("a", 0, Err(Failure::Cancelled)), 5);
    let script: Script = Arc::new(|r| {
        r.cancel.raise();
        Err(Failure::Cancelled)
    });
    bench.cloud = Some(FakeCloud::new(true, script));
    let mut session = bench.prompted();
    let cancel = Cancel::new();
    session.set_cancel(cancel.clone());
    bench.stuck.store(true, Relaxed);
    assert!(matches!(session.step(), Err(Error::Cancelled)));
    assert_eq!((session.text(), session.usage().consults), (">".into(), 1));
    bench.stuck.store(false, Relaxed);
    cancel.lower();
    session.set_cloud(None);
    assert_eq!(text_of(&steps(&mut session, 9)), "abcdefgh");
}

/// A panic in the consult is the step's, as it is without overlap.
#[test]
fn a_panic_goes_through() {
    for overlap in [0, 5] {
        let mut bench = with_overlap(bench("a", 0, Err(Failure::Busy)), overlap);
        bench.cloud =
            Some(FakeCloud::new(true, Arc::new(|_| std::panic::resume_unwind(Box::new(7)))));
        let mut session = bench.prompted();
        let panic = catch_unwind(AssertUnwindSafe(|| session.step())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&7));
        session.set_cloud(None);
        assert_eq!(text_of(&steps(&mut session, 9)), "abcdefgh");
    }
}

/// Saved or forked in the middle of what was read ahead, it goes on alike.
#[test]
fn what_was_read_ahead_is_no_part_of_the_conversation() {
    let bench = with_overlap(bench("b", 6, ids(&[byte(b'b')])), 4);
    let mut session = bench.prompted();
    assert_eq!(text_of(&steps(&mut session, 2)), "ab");
    let mut state = Vec::new();
    session.save(&mut |piece| state.extend_from_slice(piece));
    let mut restored = bench.session();
    restored.restore(&state).unwrap();
    let mut fork = session.fork().unwrap();
    for session in [&mut restored, &mut fork, &mut session] {
        assert_eq!(text_of(&steps(session, 9)), "cdefgh");
    }
    let mut rewound = bench.prompted();
    steps(&mut rewound, 3);
    rewound.rewind(2).unwrap();
    rewound.prompt("?").unwrap();
    assert_eq!(text_of(&steps(&mut rewound, 9)), "cdefgh");
}

#[test]
fn rows_must_be_exact() {
    let mut bench = Bench::new(endless());
    bench.exact_rows = false;
    let mut session = bench.session();
    let overlap = ConsultOptions { overlap: 1, ..ConsultOptions::default() };
    let error = session.set_consult(overlap).unwrap_err().to_string();
    assert!(error.contains("overlap: a plain export"), "{error}");
    session.set_consult(ConsultOptions::default()).unwrap();
    assert_eq!(session.consult().overlap, 0);
}
