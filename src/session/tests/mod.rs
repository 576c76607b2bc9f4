//! The session against scripts.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::consult::{Answer, Continuation, Failure};
use crate::controller::{Hold, Unit};
use crate::policy::{Budget, Mode, Reason};
use crate::reward::Features;
use crate::tokens::Message;
use crate::tokens::example::*;

mod bytes;
mod fakes;
mod life;
mod overlap;
mod property;
mod remedies;
mod setters;
mod sharing;
mod state;
mod warm;
use fakes::*;

fn sources(steps: &[Step]) -> Vec<(Source, Reason)> {
    steps.iter().map(|step| (step.source, step.reason)).collect()
}

#[test]
fn local_generation() {
    let bench = Bench::new(spelling(1, "né 😀!"));
    let mut session = bench.prompted();
    let steps = steps(&mut session, 100);
    let texts: Vec<_> = steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(texts, ["n", "", "é", " ", "", "", "", "😀", "!", ""]);
    let bytes: Vec<u8> = steps.iter().flat_map(|step| step.bytes.clone()).collect();
    assert_eq!(bytes, "né 😀!".as_bytes());
    assert!(steps.iter().all(|s| (s.source, s.reason) == (Source::Local, Reason::LocalOnly)));
    assert!(steps.iter().all(|s| s.candidate == s.token && s.score == 1.0 && !s.consulted));
    let last = steps.last().unwrap();
    assert_eq!((last.token, last.end, last.bytes.len()), (END, End::StopToken, 0));
    assert!(matches!(session.step(), Err(Error::State(_))), "it has ended");
    assert!(matches!(session.peek(), Err(Error::State(_))));
    assert_eq!(session.tokens().len(), 11, "prompt, text and stop token");
}

/// A cloud that is not asked, or never answers, does not change a token.
#[test]
fn cloud_off_changes_nothing() {
    let silent = FakeCloud::new(true, always(Err(Failure::Connect)));
    let generate = |mode, cloud: Option<&Arc<FakeCloud>>, after| {
        let mut bench = Bench::new(endless());
        bench.options.seed = 5;
        bench.sampling.temperature = 1.0;
        bench.gate.mode = mode;
        bench.cloud = cloud.cloned();
        bench.score = Arc::new(|_| 0.0);
        bench.after = after;
        let mut session = bench.prompted();
        let steps = steps(&mut session, 60);
        let bytes: Vec<u8> = steps.iter().flat_map(|step| step.bytes.clone()).collect();
        (session.tokens().to_vec(), bytes, text_of(&steps), session.flush())
    };
    let alone = generate(Mode::LocalOnly, None, false);
    for after in [false, true] {
        for mode in [Mode::LocalOnly, Mode::Hybrid, Mode::CloudFirst] {
            assert_eq!(generate(mode, None, after), alone, "{mode:?} without a cloud");
            assert_eq!(generate(mode, Some(&silent), after), alone, "{mode:?}, silent cloud");
        }
    }
    assert!(silent.calls() > 0);
}

#[test]
fn weak_candidates_come_from_the_cloud() {
    // The cloud corrects the third letter; the SLM goes on from there.
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::new(spelling(1, "abcde"));
    bench.cloud = Some(cloud.clone());
    bench.score = Arc::new(|f| if f.candidate == byte(b'c') { 0.2 } else { 0.9 });
    for after in [false, true] {
        bench.after = after;
        bench.take_log();
        let mut session = bench.prompted();
        let steps = steps(&mut session, 100);
        assert_eq!(text_of(&steps), "abXde");
        let weak = &steps[2];
        assert_eq!((weak.source, weak.reason), (Source::Cloud, Reason::Weak));
        assert_eq!((weak.token, weak.candidate, weak.score), (byte(b'X'), byte(b'c'), 0.2));
        assert!(weak.consulted && weak.failure.is_none());
        assert_eq!((weak.bytes_sent, weak.bytes_received, weak.billed_prompt_tokens), (100, 10, 3));
        assert_eq!(weak.cloud_time, Duration::from_millis(3));
        assert_eq!((steps[3].source, steps[3].reason), (Source::Local, Reason::Confident));
        // Kept candidates cost one feed each; the rejected one is fed and rewound.
        let log = if after { vec![1, 1, 1, 1, -1, 1, 1, 1, 1] } else { vec![1; 6] };
        assert_eq!(bench.take_log(), log);
    }
    let requests = cloud.requests.lock().unwrap();
    let (ids, bytes, max_tokens) = &requests[0];
    assert_eq!(ids, &[byte(b'>'), byte(b'a'), byte(b'b')]);
    assert_eq!((bytes.as_slice(), *max_tokens), (&b">ab"[..], 1));
}

/// What the SLM did for the candidate is kept when the cloud says the same.
#[test]
fn agreement_costs_no_rewind() {
    let cloud = FakeCloud::new(true, Arc::new(|r| ids(&[byte(b"abc"[r.ids.len() - 1])])));
    let mut bench = Bench::weak(spelling(1, "abc"), &cloud);
    bench.after = true;
    let mut session = bench.prompted();
    assert_eq!(text_of(&steps(&mut session, 3)), "abc");
    assert_eq!(bench.take_log(), [1, 1, 1, 1]);
    assert_eq!(session.stats().cloud, 3);
}

#[test]
fn the_score_sees_the_state_before_and_after() {
    let mut bench = Bench::new(endless());
    bench.after = true;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    bench.score = Arc::new(move |f| {
        log.lock().unwrap().push((f.hidden.to_vec(), f.hidden_after.unwrap().to_vec()));
        assert_eq!(f.stats.log_p, f.stats.top[0]);
        1.0
    });
    let mut session = bench.prompted();
    steps(&mut session, 5);
    for (n, (before, after)) in seen.lock().unwrap().iter().enumerate() {
        assert_eq!(before, &[hidden(&session.tokens()[..n + 1])]);
        assert_eq!(after, &[hidden(&session.tokens()[..n + 2])]);
    }
}

/// A text that repeats itself takes fewer batches.
#[test]
fn a_draft_saves_batches() {
    let mut bench = Bench::new(spelling(1, "abcdabcdabcdabcdabcdabcd"));
    bench.options.draft = 7;
    for after in [false, true] {
        bench.after = after;
        bench.take_log();
        let mut session = bench.prompted();
        assert_eq!(text_of(&steps(&mut session, 100)), "abcd".repeat(6));
        let log = bench.take_log();
        // One by one until `abc` has come again, then with 3 and with 7 more, the last ones beyond
        // the end.
        assert_eq!(log[..7], [1; 7], "{after}");
        assert_eq!(log[7..11], [4, 8, 8, -2], "{after}");
    }
}

#[test]
fn every_failure_keeps_the_candidate() {
    use Failure::*;
    let all =
        [Timeout, Connect, Tls, Unauthorized, Busy, Status, Protocol, UnsafeBoundary, ClockNotSet];
    for failure in all {
        let cloud = FakeCloud::new(true, always(Err(failure)));
        let mut session = Bench::weak(spelling(1, "abc"), &cloud).prompted();
        let step = session.step().unwrap();
        assert_eq!((step.source, step.reason), (Source::Fallback, Reason::ConsultFailed));
        assert_eq!((step.failure, step.consulted, step.bytes_sent), (Some(failure), true, 100));
        assert_eq!((step.token, step.text.as_str()), (step.candidate, "a"));
        assert_eq!(text_of(&steps(&mut session, 9)), "bc");
    }
}

#[test]
fn a_useless_answer_is_a_protocol_failure() {
    let partial = bytes(b"\xE2\x82");
    for (shares, answer) in [(true, ids(&[])), (true, ids(&[PADDING])), (false, partial)] {
        let cloud = FakeCloud::new(shares, always(answer));
        let step = Bench::weak(spelling(1, "abc"), &cloud).prompted().step().unwrap();
        assert_eq!((step.failure, step.text.as_str()), (Some(Failure::Protocol), "a"));
    }
}

#[test]
fn the_breaker_opens_and_lets_a_probe_through() {
    let cloud = FakeCloud::new(true, always(Err(Failure::Timeout)));
    let bench = Bench::weak(endless(), &cloud);
    let mut session = bench.prompted();
    let calls_after = |session: &mut Session, millis: u64| {
        bench.millis.store(millis, Relaxed);
        let step = session.step().unwrap();
        (step.reason, cloud.calls())
    };
    use Reason::{BreakerOpen, ConsultFailed};
    let rows = [
        (0, ConsultFailed, 1),
        (0, ConsultFailed, 2),
        (0, ConsultFailed, 3),
        (999, BreakerOpen, 3),
        (1000, ConsultFailed, 4),
        (1001, BreakerOpen, 4),
        (2999, BreakerOpen, 4),
        (3000, ConsultFailed, 5),
        (3001, BreakerOpen, 5),
    ];
    for (row, (millis, reason, calls)) in rows.into_iter().enumerate() {
        assert_eq!(calls_after(&mut session, millis), (reason, calls), "row {row}");
    }
}

#[test]
fn clock_and_boundary() {
    let cloud = FakeCloud::new(false, always(bytes(b"!")));
    let bench = Bench::weak(spelling(1, "é😀"), &cloud);
    let mut session = bench.prompted();
    bench.clock_set.store(false, Relaxed);
    let step = session.step().unwrap();
    assert_eq!((step.source, step.reason), (Source::Fallback, Reason::ClockNotSet));
    bench.clock_set.store(true, Relaxed);
    let step = session.step().unwrap();
    assert_eq!((step.source, step.reason), (Source::Fallback, Reason::UnsafeBoundary));
    let step = session.step().unwrap();
    assert_eq!((step.source, step.text.as_str()), (Source::Cloud, "!"));
    assert_eq!(cloud.requests.lock().unwrap()[0].1, ">é".as_bytes());
}

#[test]
fn budgets() {
    let rows = [
        (Budget { consults: Some(2), ..Budget::default() }, 2, Reason::BudgetConsults),
        (Budget { tokens: Some(5), ..Budget::default() }, 2, Reason::BudgetTokens),
        (Budget { bytes: Some(111), ..Budget::default() }, 2, Reason::BudgetBytes),
        (Budget { consults: Some(0), ..Budget::default() }, 0, Reason::BudgetConsults),
    ];
    for (budget, calls, reason) in rows {
        let script: Script = Arc::new(|r| ids(&vec![byte(b'c'); r.max_tokens as usize]));
        let cloud = FakeCloud::new(true, script);
        let mut bench = Bench::weak(endless(), &cloud);
        bench.budget = budget;
        bench.consult.burst = 3;
        let steps = steps(&mut bench.prompted(), 20);
        assert_eq!(cloud.calls(), calls, "{budget:?}");
        assert_eq!(steps.last().unwrap().reason, reason);
        assert_eq!(steps.last().unwrap().source, Source::Fallback);
        let written = steps.iter().filter(|step| step.source == Source::Cloud).count() as u64;
        assert!(budget.tokens.is_none_or(|tokens| written == tokens), "{written}");
    }
}

/// The score is a fixed random number of the context, and the cloud writes two tokens at a time.
#[test]
fn a_share_is_held_in_a_session() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'x'), byte(b'y')])));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.score = Arc::new(|f| (f.hidden[0] / (1 << 24) as f32).powi(2));
    (bench.capacity, bench.consult.burst) = (1001, 2);
    bench.budget.hold = Some(Hold::Share(0.3));
    let mut session = bench.prompted();
    steps(&mut session, 1000);
    let (stats, threshold) = (session.stats(), session.threshold());
    assert_eq!(stats.fallback, 0);
    let share = stats.cloud as f64 / 1000.0;
    assert!((share - 0.3).abs() < 0.02, "{share}");
    // Of the scores' squares 30 % are under this; bursts make the share of tokens larger.
    assert!(threshold > 0.0 && threshold < 0.09, "{threshold}");
}

#[test]
fn an_hour_is_held_in_a_session() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'x')])));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.budget.hold = Some(Hold::PerHour { limit: 550.0, unit: Unit::Bytes });
    let mut session = bench.prompted();
    let got = steps(&mut session, 10);
    assert_eq!(cloud.calls(), 5, "110 bytes each");
    let last = got.last().unwrap();
    assert_eq!((last.source, last.reason), (Source::Fallback, Reason::BudgetHour));
    assert_eq!(session.peek().unwrap().reason, Reason::BudgetHour);
    bench.millis.store(3_600_000, Relaxed);
    assert_eq!(session.step().unwrap().reason, Reason::Weak, "the next hour");
}

#[test]
fn a_burst_is_handed_out_token_by_token() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'x'), byte(b'y'), byte(b'z')])));
    let mut bench = Bench::weak(spelling(1, "abcdefgh"), &cloud);
    bench.consult.burst = 3;
    let mut session = bench.prompted();
    let got = steps(&mut session, 4);
    assert_eq!(text_of(&got), "xyzx");
    let (first, rest) = ((Source::Cloud, Reason::Weak), (Source::Cloud, Reason::Burst));
    assert_eq!(sources(&got), [first, rest, rest, first]);
    assert!(got[1].score.is_nan() && !got[1].consulted && got[1].bytes_sent == 0);
    assert_eq!(got[1].candidate, got[1].token);
    assert_eq!(bench.take_log(), [1, 3], "one batch after the burst");
    assert_eq!(cloud.calls(), 2);
    let peek = session.peek().unwrap();
    assert_eq!(
        (peek.candidate, peek.reason, peek.would_consult),
        (byte(b'y'), Reason::Burst, false)
    );
    session.rewind(2).unwrap();
    assert_eq!(session.step().unwrap().reason, Reason::Weak, "a rewind drops the burst");
    session.prompt("?").unwrap();
    assert_eq!(session.step().unwrap().reason, Reason::Weak, "and so does a prompt");
}

#[test]
fn a_burst_is_handed_back_where_the_slm_is_sure_of_the_same() {
    let cloud = FakeCloud::new(true, always(ids(&b"XbcXe".map(byte))));
    let mut bench = Bench::weak(spelling(1, "abcdefgh"), &cloud);
    (bench.consult.burst, bench.consult.hand_back) = (5, true);
    bench.score = Arc::new(|f| match f.candidate {
        c if c == byte(b'a') => 0.0,
        c if c == byte(b'c') => 0.4,
        _ => 0.9,
    });
    for (after, log) in [(false, vec![1, 5]), (true, vec![1, 1, -1, 5, 1])] {
        bench.after = after;
        let mut session = bench.prompted();
        let mut got = steps(&mut session, 1);
        let peek = session.peek().unwrap();
        assert_eq!((peek.candidate, peek.score), (byte(b'b'), 0.9));
        assert_eq!((peek.reason, peek.would_consult), (Reason::Confident, false));
        got.append(&mut steps(&mut session, 2));
        assert_eq!(session.peek().unwrap().reason, Reason::Burst);
        got.append(&mut steps(&mut session, 3));
        assert_eq!(text_of(&got), "XbcXef");
        let ours = (Source::Local, Reason::Confident);
        let of_burst = (Source::Cloud, Reason::Burst);
        let first = (Source::Cloud, Reason::Weak);
        assert_eq!(sources(&got), [first, ours, of_burst, of_burst, ours, ours]);
        let candidates: Vec<u32> = got.iter().map(|step| step.candidate).collect();
        assert_eq!(candidates, b"abcdef".map(byte));
        assert_eq!((got[1].score, got[2].score), (0.9, 0.4));
        assert!(got[3].score.is_nan(), "another token comes: there is nothing to score");
        let stats = session.stats();
        assert_eq!((stats.local, stats.cloud, session.usage().answer_tokens), (3, 3, 5));
        assert_eq!(bench.take_log(), log, "the burst is read in one batch");
    }
}

#[test]
fn a_long_burst_is_read_in_batches() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'x'); 20])));
    let mut bench = Bench::weak(endless(), &cloud);
    (bench.consult.burst, bench.consult.hand_back) = (20, true);
    let mut session = bench.prompted();
    steps(&mut session, 20);
    assert_eq!(bench.take_log(), [1, 9, 8, 3]);
    // What was read ahead of a burst that is dropped is forgotten.
    steps(&mut session, 2);
    session.prompt("?").unwrap();
    assert_eq!(bench.take_log(), [9, -7, 1]);
}

#[test]
fn bytes_are_re_encoded() {
    let cloud = FakeCloud::new(false, always(bytes("hello é".as_bytes())));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.consult.burst = 4;
    let mut session = bench.prompted();
    let steps = steps(&mut session, 4);
    assert_eq!(text_of(&steps), "hello é");
    assert_eq!(session.tokens()[1..], [HELLO, byte(b' '), byte(0xC3), byte(0xA9)]);
    assert_eq!(session.stats().cloud, 4);
}

#[test]
fn the_cloud_ends_the_text() {
    let end = |continuation| Ok(Answer { continuation, end: true });
    let rows = [
        (true, end(Continuation::Ids(vec![])), ""),
        (true, end(Continuation::Ids(vec![HELLO])), "hello"),
        (true, ids(&[HELLO, END, HELLO]), "hello"),
        (false, end(Continuation::Bytes(b"hello".into())), "hello"),
        (false, end(Continuation::Bytes(b"".into())), ""),
    ];
    for (shares, answer, text) in rows {
        let cloud = FakeCloud::new(shares, always(answer));
        let mut bench = Bench::weak(endless(), &cloud);
        bench.consult.burst = 3;
        let mut session = bench.prompted();
        let steps = steps(&mut session, 9);
        assert_eq!(text_of(&steps), text);
        let last = steps.last().unwrap();
        assert_eq!((last.token, last.source, last.end), (END, Source::Cloud, End::StopToken));
        assert_eq!(cloud.calls(), 1);
    }
}

#[test]
fn cloud_first_asks_for_every_token_and_scores_none() {
    let cloud = FakeCloud::new(
        true,
        Arc::new(|r| match r.ids.len() {
            3 => Err(Failure::Timeout),
            _ => ids(&[byte(b'C')]),
        }),
    );
    let mut bench = Bench::weak(spelling(1, "abcd"), &cloud);
    bench.gate.mode = Mode::CloudFirst;
    let steps = steps(&mut bench.prompted(), 4);
    assert_eq!(text_of(&steps), "CCcC");
    assert!(steps.iter().all(|step| step.score.is_nan()));
    assert_eq!(steps[0].reason, Reason::CloudFirst);
    assert_eq!(steps[2].source, Source::Fallback);
}
