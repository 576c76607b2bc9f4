//! Sessions side by side: one breaker, forks.

use super::*;

/// The breaker is the cloud's: what one session finds out, the others know.
#[test]
fn sessions_share_the_breaker() {
    let cloud = FakeCloud::new(true, always(Err(Failure::Timeout)));
    let bench = Bench::weak(endless(), &cloud);
    let mut sessions = [(); 3].map(|()| bench.prompted());
    let mut reasons = |millis: u64| {
        bench.millis.store(millis, Relaxed);
        sessions.each_mut().map(|session| session.step().unwrap().reason)
    };
    use Reason::{BreakerOpen, ConsultFailed};
    assert_eq!(reasons(0), [ConsultFailed; 3]);
    assert_eq!(reasons(999), [BreakerOpen; 3]);
    assert_eq!(reasons(1000), [ConsultFailed, BreakerOpen, BreakerOpen], "one probe");
    cloud.breaker().unwrap().reset();
    assert_eq!(reasons(1000), [ConsultFailed; 3]);
}

/// While one session's probe is on its way, another one keeps its candidate. A probe that is
/// cancelled leaves the next one to others.
#[test]
fn one_session_probes() {
    let other: Arc<std::sync::Mutex<Option<Session>>> = Arc::default();
    let (during, calls) = (other.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let script: Script = Arc::new(move |_| match calls.fetch_add(1, Relaxed) {
        0..3 => Err(Failure::Connect),
        3 => {
            let step = during.lock().unwrap().as_mut().unwrap().step().unwrap();
            assert_eq!((step.reason, step.consulted), (Reason::BreakerOpen, false));
            Err(Failure::Cancelled)
        }
        _ => ids(&[byte(b'X')]),
    });
    let cloud = FakeCloud::new(true, script);
    let bench = Bench::weak(endless(), &cloud);
    let mut session = bench.prompted();
    *other.lock().unwrap() = Some(bench.prompted());
    steps(&mut session, 3);
    bench.millis.store(1000, Relaxed);
    assert!(session.peek().unwrap().would_consult);
    assert!(matches!(session.step(), Err(Error::Cancelled)));
    let mut other = other.lock().unwrap().take().unwrap();
    assert_eq!(other.step().unwrap().source, Source::Cloud, "the next probe");
    assert_eq!(session.step().unwrap().source, Source::Cloud);
}

/// In the middle of whatever, greedy and drawn, scored before and after.
#[test]
fn a_fork_goes_on_alike() {
    type Way = fn(&mut Session);
    let ways: [(&str, Way); 6] = [
        ("a prompt", |s| s.prompt("Hello").unwrap()),
        ("a peek", |s| drop((s.prompt(">").unwrap(), s.step().unwrap(), s.peek().unwrap()))),
        ("tokens", |s| drop((s.prompt(">>").unwrap(), steps(s, 7)))),
        ("a rewind", |s| drop((s.prompt(">").unwrap(), steps(s, 7), s.rewind(3).unwrap()))),
        ("a bias", |s| {
            s.prompt(">").unwrap();
            s.set_logit_bias(&[(HELLO, 2.0)]).unwrap();
        }),
        ("local", |s| {
            s.prompt(">").unwrap();
            s.set_gate(Gate { mode: Mode::LocalOnly, ..s.gate() }).unwrap();
        }),
    ];
    let burst = FakeCloud::new(true, always(ids(&[byte(0xE2), byte(0x82), byte(0xAC)])));
    for (name, way) in ways {
        for (after, temperature, cloud) in
            [(false, 0.0, None), (true, 0.0, None), (true, 1.0, None), (true, 1.0, Some(&burst))]
        {
            let mut bench = Bench::new(endless());
            (bench.after, bench.cloud) = (after, cloud.cloned());
            bench.score = Arc::new(|f| (hash(&[f.candidate]) % 4) as f32 / 3.0);
            bench.options = SessionOptions { seed: 3, draft: 4, ..Default::default() };
            bench.sampling.temperature = temperature;
            (bench.consult.burst, bench.corrections.capacity) = (3, 10);
            let mut session = bench.session();
            way(&mut session);
            let mut fork = session.fork().unwrap();
            assert_eq!((fork.stats(), fork.usage()), (session.stats(), session.usage()));
            assert_eq!(fork.tokens(), session.tokens());
            let told = |session: &mut Session| {
                let steps = steps(session, 12).into_iter();
                let told = steps.map(|s| (s.token, s.text, s.source, s.score.to_bits()));
                (told.collect::<Vec<_>>(), session.flush(), session.save_corrections())
            };
            let of_fork = told(&mut fork);
            assert_eq!(told(&mut session), of_fork, "{name}, {after}, {temperature}");
        }
    }
}

#[test]
fn a_fork_shares_nothing_that_changes() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(spelling(1, "abcdef"), &cloud);
    bench.budget = Budget { consults: Some(2), ..Budget::default() };
    bench.corrections.capacity = 9;
    let mut session = bench.prompted();
    let cancel = Cancel::new();
    session.set_cancel(cancel.clone());
    session.step().unwrap();
    let mut fork = session.fork().unwrap();
    cancel.raise();
    assert!(matches!(session.step(), Err(Error::Cancelled)));
    let step = fork.step().unwrap();
    assert_eq!(step.source, Source::Cloud, "its own flag");
    assert_eq!(fork.step().unwrap().reason, Reason::BudgetConsults, "one was spent before");
    cancel.lower();
    assert_eq!(session.step().unwrap().source, Source::Cloud, "the fork's is its own");
    assert_eq!(session.step().unwrap().reason, Reason::BudgetConsults);
    assert_eq!((session.usage().consults, fork.usage().consults), (2, 2));
    fork.rewind(3).unwrap();
    fork.set_cloud(None);
    fork.set_gate(Gate { mode: Mode::LocalOnly, ..fork.gate() }).unwrap();
    assert_eq!(text_of(&steps(&mut fork, 2)), "ab");
    assert_eq!((session.len(), session.gate().mode), (4, Mode::Hybrid));
    let thread = std::thread::spawn(move || fork.len());
    assert_eq!(thread.join().unwrap(), 3);
}

/// A held budget goes on from the threshold it has come to, and what is spent of the hour is spent.
#[test]
fn a_fork_holds_from_here() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(endless(), &cloud);
    let hold = Hold::PerHour { limit: 2.0, unit: Unit::Consults };
    bench.budget.hold = Some(hold);
    let mut session = bench.prompted();
    steps(&mut session, 5);
    assert_eq!(session.peek().unwrap().reason, Reason::BudgetHour);
    let mut fork = session.fork().unwrap();
    assert_eq!(fork.threshold(), session.threshold());
    assert_eq!(fork.peek().unwrap().reason, Reason::BudgetHour);
    bench.millis.store(3_600_000, Relaxed);
    assert_eq!(fork.peek().unwrap().reason, Reason::Weak, "the next hour of both");
}
