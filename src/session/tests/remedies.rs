//! What is tried before the cloud: alternatives of the SLM, and corrections.

use super::*;

/// The scores by their order: of the candidate, then of the alternatives.
pub fn in_order(scores: &'static [f32]) -> Arc<dyn Fn(&Features) -> f32 + Send + Sync> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    Arc::new(move |_| scores[next.fetch_add(1, Relaxed)])
}

#[test]
fn the_best_alternative_is_taken_before_the_cloud_is_asked() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(endless(), &cloud);
    bench.consult.rescue = 3;
    let row = |ids: &[u32]| crate::sampler::top_tokens(&bench.row(ids));
    let [candidate, _, second, third, ..] = row(&[byte(b'>')]);
    for (after, log) in [(false, vec![1, 1]), (true, vec![1, 1, -1, 1, -1, 1, -1, 1, -1, 1, 1])] {
        bench.after = after;
        bench.score = in_order(&[0.4, 0.6, 0.8, 0.7, 0.9]);
        let mut session = bench.prompted();
        let peek = session.peek().unwrap();
        assert_eq!((peek.candidate, peek.score, peek.would_consult), (second, 0.8, false));
        let step = session.step().unwrap();
        assert_eq!((step.source, step.reason), (Source::Local, Reason::Rescued));
        assert_eq!((step.token, step.candidate, step.score), (second, second, 0.8));
        assert_eq!(session.step().unwrap().reason, Reason::Confident);
        assert_eq!(bench.take_log(), log);
        assert_eq!((cloud.calls(), session.stats().rescued, session.stats().local), (0, 1, 2));
    }
    // One over the threshold is enough; of equal ones the less likely is no better.
    bench.score = in_order(&[0.4, 0.1, 0.5, 0.5]);
    assert_eq!(bench.prompted().step().unwrap().token, second);
    bench.score = in_order(&[0.4, 0.1, 0.2, 0.5]);
    assert_eq!(bench.prompted().step().unwrap().token, third);
    // None reaches the threshold: the cloud is asked about the candidate as it was. A peek has
    // tried already.
    bench.score = in_order(&[0.4, 0.3, 0.1, 0.49]);
    let mut session = bench.prompted();
    assert_eq!(session.peek().unwrap().reason, Reason::Weak);
    let step = session.step().unwrap();
    assert_eq!((step.source, step.candidate, step.score), (Source::Cloud, candidate, 0.4));
}

/// Alternatives cost work, so they are tried only where a consult would be.
#[test]
fn nothing_is_rescued_where_the_cloud_may_not_be_asked() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X')])));
    let mut bench = Bench::weak(endless(), &cloud);
    (bench.consult.rescue, bench.budget.consults) = (7, Some(0));
    bench.score = in_order(&[0.4]);
    assert_eq!(bench.prompted().step().unwrap().reason, Reason::BudgetConsults);
}

#[test]
fn what_was_answered_before_is_not_asked_again() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'X'), byte(b'Y')])));
    let mut bench = Bench::weak(spelling(1, "abcd"), &cloud);
    bench.consult.burst = 2;
    (bench.corrections.capacity, bench.corrections.suffix) = (10, 1);
    let mut session = bench.prompted();
    assert_eq!(text_of(&steps(&mut session, 2)), "XY");
    session.rewind(2).unwrap();
    // Also when the cloud could not be asked.
    bench.clock_set.store(false, Relaxed);
    let peek = session.peek().unwrap();
    assert_eq!((peek.would_consult, peek.reason), (false, Reason::Correction));
    let got = steps(&mut session, 3);
    assert_eq!(text_of(&got), "XYc");
    let cached = |reason| (Source::Correction, reason);
    let fallback = (Source::Fallback, Reason::ClockNotSet);
    assert_eq!(sources(&got), [cached(Reason::Correction), cached(Reason::Burst), fallback]);
    assert_eq!((got[0].candidate, got[0].consulted), (byte(b'a'), false));
    let stats = session.stats();
    assert_eq!((stats.cloud, stats.corrections), (2, 2));
    assert_eq!(session.usage().answer_tokens, 2);
    assert_eq!(cloud.calls(), 1);

    let saved = session.save_corrections();
    let mut other = bench.session();
    other.restore_corrections(&saved).unwrap();
    other.prompt("<>").unwrap();
    assert_eq!(
        other.step().unwrap().reason,
        Reason::ClockNotSet,
        "the same last id, another candidate"
    );
    let mut other = bench.session();
    other.restore_corrections(&saved).unwrap();
    other.prompt(">").unwrap();
    let got = steps(&mut other, 1);
    assert_eq!(sources(&got), [cached(Reason::Correction)]);
    // A saved conversation remembers whose the rest of a burst is.
    let mut state = Vec::new();
    other.save(&mut |piece| state.extend_from_slice(piece));
    session.restore(&state).unwrap();
    assert_eq!(sources(&steps(&mut session, 1)), [cached(Reason::Burst)]);
}
