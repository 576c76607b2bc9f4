//! The server reads a prompt while the SLM reads it.

use super::*;
use crate::reward::Threshold;

/// The cloud answers once the SLM has read the prompt, so neither waits for the other.
fn bench(answer: std::result::Result<Answer, Failure>) -> Bench {
    let mut bench = Bench::new(spelling(1, "abc"));
    let log = bench.log.clone();
    let script: Script = Arc::new(move |_| {
        wait_until(|| !log.lock().unwrap().is_empty());
        answer.clone()
    });
    bench.cloud = Some(FakeCloud::new(true, script));
    bench.consult.warm = true;
    bench
}

#[test]
fn both_read_the_prompt() {
    for answer in [ids(&[byte(b'X')]), Err(Failure::Timeout)] {
        let failures = u64::from(answer.is_err());
        let bench = bench(answer);
        let mut session = bench.prompted();
        let cloud = bench.cloud.as_ref().unwrap();
        assert_eq!(*cloud.requests.lock().unwrap(), [(vec![byte(b'>')], b">".to_vec(), 1)]);
        let usage = session.usage();
        assert_eq!((usage.consults, usage.failures, usage.bytes_sent), (1, failures, 100));
        assert_eq!(usage.answer_tokens, 1 - failures);
        assert_eq!(text_of(&steps(&mut session, 9)), "abc", "the answer is dropped");
        session.prompt("?").unwrap();
        assert_eq!(cloud.calls(), 2, "with every prompt");
    }
}

#[test]
fn nothing_is_sent_where_no_consult_could_follow() {
    type Change = fn(&mut Bench);
    let rows: [(&str, Change); 7] = [
        ("off", |b| b.consult.warm = false),
        ("local only", |b| b.gate.mode = Mode::LocalOnly),
        ("threshold 0", |b| b.gate.threshold = Threshold::Value(0.0)),
        ("budget", |b| b.budget.consults = Some(0)),
        ("clock", |b| b.clock_set.store(false, Relaxed)),
        ("messages", |b| b.cloud.as_ref().unwrap().needs_messages.store(true, Relaxed)),
        ("breaker", |b| {
            let breaker = b.cloud.as_ref().unwrap().breaker().unwrap();
            breaker.admit().unwrap().record(Err(Failure::Tls), Duration::ZERO);
        }),
    ];
    for (name, change) in rows {
        let mut bench = bench(ids(&[byte(b'X')]));
        change(&mut bench);
        let mut session = bench.session();
        let prompted = session.prompt(">");
        assert_eq!(prompted.is_ok(), name != "messages", "{name}");
        assert_eq!(bench.cloud.as_ref().unwrap().calls(), 0, "{name}");
        assert_eq!(session.usage().consults, 0);
    }
}

#[test]
fn a_cancelled_prompt_is_none() {
    let mut bench = bench(ids(&[byte(b'X')]));
    let script: Script = Arc::new(|r| {
        r.cancel.raise();
        Err(Failure::Cancelled)
    });
    bench.cloud = Some(FakeCloud::new(true, script));
    bench.stuck.store(true, Relaxed);
    let mut session = bench.session();
    let cancel = Cancel::new();
    session.set_cancel(cancel.clone());
    assert!(matches!(session.prompt(">"), Err(Error::Cancelled)));
    assert!(session.is_empty());
    cancel.lower();
    bench.stuck.store(false, Relaxed);
    session.set_cloud(None);
    session.prompt(">").unwrap();
    assert_eq!(text_of(&steps(&mut session, 9)), "abc");
}
