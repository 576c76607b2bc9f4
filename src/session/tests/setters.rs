//! What is changed between steps.

use super::remedies::in_order;
use super::*;
use crate::reward::Threshold;

fn gate(threshold: f32) -> Gate {
    Gate { threshold: Threshold::Value(threshold), ..Gate::default() }
}

fn share(share: f64) -> Budget {
    Budget { hold: Some(Hold::Share(share)), ..Budget::default() }
}

/// Scores drawn from a generator that a peek moves on, as [`ScoreKind::Random`] does.
fn warm() -> Bench {
    let mut bench = Bench::new(endless());
    bench.sampling.temperature = 2.0;
    bench.options.seed = 9;
    bench
}

#[test]
fn what_is_set_is_read_back() {
    let mut session = Bench::new(endless()).session();
    assert_eq!(session.sampling(), Sampling::default());
    assert_eq!((session.gate(), session.consult()), Default::default());
    assert_eq!((session.budget(), session.corrections()), Default::default());
    let sampling = Sampling { temperature: 0.5, top_k: 7, ..Sampling::default() };
    let consult = ConsultOptions { burst: 9, hand_back: true, ..ConsultOptions::default() };
    let budget = Budget { consults: Some(3), ..share(0.2) };
    let corrections = CorrectionOptions { capacity: 5, suffix: 6 };
    session.set_sampling(sampling).unwrap();
    session.set_gate(gate(0.25)).unwrap();
    session.set_consult(consult).unwrap();
    session.set_budget(budget).unwrap();
    session.set_corrections(corrections).unwrap();
    assert_eq!(session.sampling(), sampling);
    assert_eq!((session.gate(), session.consult()), (gate(0.25), consult));
    assert_eq!((session.budget(), session.corrections()), (budget, corrections));
    assert!((session.threshold() - 0.25).abs() < 1e-6);
}

/// A setter that fails leaves the settings, the candidate that was peeked and the draws to come.
#[test]
fn a_setter_that_fails_changes_nothing() {
    type Setter = fn(&mut Session) -> Result<()>;
    let rows: [(&str, Setter); 11] = [
        ("top_p", |s| s.set_sampling(Sampling { top_p: 7.0, ..Sampling::default() })),
        ("threshold", |s| s.set_gate(gate(-1.0))),
        ("no such score", |s| s.set_gate(Gate { score: ScoreKind::Sampled, ..gate(0.1) })),
        ("calibration", |s| {
            s.set_gate(Gate { threshold: Threshold::Share(0.2), ..Gate::default() })
        }),
        ("threshold 0", |s| s.set_gate(gate(0.0))),
        ("burst", |s| s.set_consult(ConsultOptions { burst: 0, ..Default::default() })),
        ("share", |s| s.set_budget(share(2.0))),
        ("suffix", |s| s.set_corrections(CorrectionOptions { capacity: 1, suffix: 0 })),
        ("token 99999", |s| s.set_logit_bias(&[(1, 1.0), (99_999, 1.0)])),
        ("NaN", |s| s.set_logit_bias(&[(1, f32::NAN)])),
        ("top_logprobs", |s| s.set_top_logprobs(9)),
    ];
    let mut bench = warm();
    bench.budget = share(0.2);
    let straight: Vec<u32> = steps(&mut bench.prompted(), 20).iter().map(|s| s.token).collect();
    for (part, set) in rows {
        let mut session = bench.prompted();
        let before = (session.sampling(), session.gate(), session.consult(), session.budget());
        let mut ids = Vec::new();
        for _ in 0..20 {
            let peek = session.peek().unwrap();
            let error = set(&mut session).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
            assert_eq!(session.peek().unwrap(), peek);
            ids.push(session.step().unwrap().token);
        }
        assert_eq!(ids, straight, "{part}");
        let after = (session.sampling(), session.gate(), session.consult(), session.budget());
        assert_eq!(after, before, "{part}");
    }
    let mut session = bench.prompted();
    session.set_budget(Budget::default()).unwrap();
    let guess = |s: &mut Session, rescue| {
        s.set_consult(ConsultOptions { rescue, ..ConsultOptions::default() })
    };
    guess(&mut session, 3).unwrap();
    let margin = Gate { score: ScoreKind::Margin, ..Gate::default() };
    let error = session.set_gate(margin).unwrap_err().to_string();
    assert!(error.contains("rescue") && error.contains("margin"), "the gate comes second: {error}");
    guess(&mut session, 0).unwrap();
    session.set_gate(margin).unwrap();
    let error = guess(&mut session, 3).unwrap_err().to_string();
    assert!(error.contains("rescue") && error.contains("margin"), "rescue comes second: {error}");
}

/// Peeked or not, before a setter or before anything else that drops the candidate.
#[test]
fn a_peek_before_a_change_changes_no_text() {
    type Change = fn(&mut Session);
    let changes: [(&str, Change); 9] = [
        ("nothing", |_| ()),
        ("sampling", |s| s.set_sampling(s.sampling()).unwrap()),
        ("gate", |s| s.set_gate(s.gate()).unwrap()),
        ("consult", |s| s.set_consult(s.consult()).unwrap()),
        ("budget", |s| s.set_budget(s.budget()).unwrap()),
        ("cloud", |s| s.set_cloud(None)),
        ("bias", |s| s.set_logit_bias(&[]).unwrap()),
        ("prompt", |s| s.prompt("x").unwrap()),
        ("rewind", |s| s.rewind(1).unwrap()),
    ];
    for after in [false, true] {
        let mut bench = warm();
        bench.after = after;
        for (name, change) in changes {
            let write = |peeks: bool| {
                let mut session = bench.prompted();
                for _ in 0..10 {
                    steps(&mut session, 2);
                    if peeks {
                        session.peek().unwrap();
                    }
                    change(&mut session);
                }
                steps(&mut session, 5);
                session.tokens().to_vec()
            };
            assert_eq!(write(true), write(false), "{name}, {after}");
        }
    }
}

/// The promise of the README: 0 is never, whatever else is asked for.
#[test]
fn threshold_0_never_asks() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.gate = gate(0.0);
    let mut session = bench.prompted();
    let holds = [Hold::Share(0.9), Hold::PerHour { limit: 9.0, unit: Unit::Consults }];
    for hold in holds {
        let error = session.set_budget(Budget { hold: Some(hold), ..Budget::default() });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("threshold 0") && error.contains("held budget"), "{error}");
        steps(&mut session, 50);
        assert_eq!((session.threshold(), cloud.calls()), (0.0, 0));
    }
    session.set_gate(gate(0.5)).unwrap();
    session.set_budget(share(0.2)).unwrap();
    let error = session.set_gate(gate(0.0)).unwrap_err().to_string();
    assert!(error.contains("threshold 0") && error.contains("held budget"), "{error}");
    assert!(session.threshold() > 0.0);
}

#[test]
fn a_session_is_switched_to_local_and_back() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(spelling(1, "abcdefgh"), &cloud);
    bench.budget = share(0.5);
    let mut session = bench.prompted();
    assert_eq!(session.step().unwrap().source, Source::Cloud);
    let threshold = session.threshold();
    session.set_gate(Gate { mode: Mode::LocalOnly, ..session.gate() }).unwrap();
    assert_eq!(session.score_kind(), None);
    let local = steps(&mut session, 3);
    assert!(local.iter().all(|s| s.reason == Reason::LocalOnly && s.score.is_nan()));
    assert_eq!(session.threshold(), threshold, "what is held rests");
    session.set_gate(Gate { mode: Mode::Hybrid, ..session.gate() }).unwrap();
    assert_eq!(session.threshold(), threshold);
    session.set_cloud(None);
    let step = session.step().unwrap();
    assert_eq!((step.reason, step.score), (Reason::LocalOnly, 0.0));
    assert_eq!(session.threshold(), threshold);
    let other = FakeCloud::new(true, always(ids(&[byte(b'Y')])));
    session.set_cloud(Some(other.clone()));
    assert_eq!(session.step().unwrap().text, "Y");
    session.set_budget(Budget { consults: Some(2), ..session.budget() }).unwrap();
    assert_eq!(session.step().unwrap().reason, Reason::BudgetConsults, "it counts from the birth");
    assert_eq!((cloud.calls(), other.calls()), (1, 1));
}

/// What was paid for is handed out.
#[test]
fn a_burst_outlives_a_change() {
    let cloud = FakeCloud::new(true, always(ids(&b"xyz".map(byte))));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.consult.burst = 3;
    let mut session = bench.prompted();
    session.step().unwrap();
    session.set_cloud(None);
    session.set_gate(Gate { mode: Mode::LocalOnly, ..session.gate() }).unwrap();
    assert_eq!(text_of(&steps(&mut session, 2)), "yz");
    assert_eq!(session.step().unwrap().source, Source::Local);
}

#[test]
fn corrections_are_kept_as_far_as_they_fit() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.corrections = CorrectionOptions { capacity: 10, suffix: 1 };
    let mut session = bench.prompted();
    session.step().unwrap();
    let again = |session: &mut Session| {
        session.reset();
        session.prompt(">").unwrap();
        session.step().unwrap().reason
    };
    assert_eq!(again(&mut session), Reason::Correction);
    session.set_corrections(CorrectionOptions { capacity: 1, suffix: 1 }).unwrap();
    assert_eq!(again(&mut session), Reason::Correction);
    session.set_corrections(CorrectionOptions { capacity: 1, suffix: 2 }).unwrap();
    assert_eq!(again(&mut session), Reason::Weak, "another suffix");
    session.set_corrections(CorrectionOptions { capacity: 0, suffix: 2 }).unwrap();
    assert_eq!(again(&mut session), Reason::Weak, "off");
}

/// Candidate and score agree on the biased logits; log-probabilities are the SLM's own.
#[test]
fn a_logit_bias() {
    let mut bench = Bench::new(spelling(1, "abcd"));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    bench.score = Arc::new(move |f| {
        log.lock().unwrap().push((f.stats.log_p, f.stats.top[0], f.logits.to_vec()));
        0.9
    });
    for after in [false, true] {
        bench.after = after;
        let mut session = bench.prompted();
        session.peek().unwrap();
        session.set_top_logprobs(1).unwrap();
        session.set_logit_bias(&[(byte(b'a'), f32::NEG_INFINITY), (HELLO, 5.0)]).unwrap();
        seen.lock().unwrap().clear();
        let step = session.step().unwrap();
        assert_eq!((step.token, step.candidate), (HELLO, HELLO));
        let (log_p, best, logits) = seen.lock().unwrap().pop().unwrap();
        assert_eq!(log_p, best, "the score sees the bias");
        let row = bench.row(&[byte(b'>')]);
        assert_eq!(logits[HELLO as usize], row[HELLO as usize] + 5.0);
        assert_eq!(logits[byte(b'a') as usize], f32::NEG_INFINITY);
        assert_eq!(step.logprobs[0].0, HELLO);
        assert_eq!(step.logprobs[1].0, byte(b'a'), "the SLM's own opinion");
        session.set_logit_bias(&[]).unwrap();
        let rest = steps(&mut session, 2);
        assert_eq!(text_of(&rest), "bc");
    }
}

#[test]
fn alternatives_follow_the_bias() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.consult.rescue = 1;
    bench.score = in_order(&[0.4, 0.6]);
    let mut session = bench.prompted();
    session.set_logit_bias(&[(HELLO, 2.0)]).unwrap();
    assert_eq!(session.step().unwrap().token, HELLO);
}

#[test]
fn log_probabilities() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X'), byte(b'Y')])));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.consult.burst = 2;
    let mut session = bench.prompted();
    session.set_top_logprobs(3).unwrap();
    let steps = steps(&mut session, 3);
    assert!(steps[1].logprobs.is_empty(), "the SLM did not look at it");
    for (at, step) in [(1, &steps[0]), (3, &steps[2])] {
        let row = bench.row(&session.tokens()[..at]);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let want = |id: u32| (id, f64::from(row[id as usize]) - sum.ln());
        let top = crate::sampler::top_tokens(&row);
        let all = [step.token, top[0], top[1], top[2]].map(want);
        assert_eq!(step.logprobs.len(), 4);
        for ((id, log_p), (want_id, want_log_p)) in step.logprobs.iter().zip(all) {
            assert!(*id == want_id && (f64::from(*log_p) - want_log_p).abs() < 1e-4);
        }
        assert_eq!((step.token, step.candidate), (byte(b'X'), top[0]));
    }
    session.set_top_logprobs(0).unwrap();
    assert!(session.step().unwrap().logprobs.is_empty());
}
