//! Random schedules: whatever happens, the context is what was handed out and the sums are right.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Act {
    Step,
    Peek,
    Rewind(usize),
    Prompt(&'static str),
    Cancel,
    Reset,
    Wait(u64),
    /// Every setting is set to what it is.
    Touch,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let texts = prop::sample::select(vec!["x", "hello", "é😀", "<|user|>y"]);
    let act = prop_oneof![
        12 => Just(Act::Step),
        2 => Just(Act::Peek),
        2 => (0..16usize).prop_map(Act::Rewind),
        1 => texts.prop_map(Act::Prompt),
        1 => Just(Act::Cancel),
        1 => (0..5000u64).prop_map(Act::Wait),
        1 => Just(Act::Reset),
        1 => Just(Act::Touch),
    ];
    prop::collection::vec(act, 1..120)
}

/// Answers of every kind, picked by what the request holds.
fn moody() -> Script {
    Arc::new(|r| match hash(r.ids) % 11 {
        0 => Err(Failure::Timeout),
        1 => Err(Failure::Unauthorized),
        2 => ids(&[]),
        3 => ids(&[PADDING]),
        4 => Ok(Answer { continuation: Continuation::Ids(vec![]), end: true }),
        5 => ids(&[byte(0xE2), byte(0x82), byte(0xAC)]),
        6 => ids(&[HELLO, HELLO, END, HELLO]),
        7 => bytes("a€".as_bytes()),
        8 => bytes(b"hello\xF0\x9F"),
        9 => Ok(Answer { continuation: Continuation::Bytes(b"z".into()), end: true }),
        _ => Err(Failure::Busy),
    })
}

/// `lost`: consults that ended in an error of the step.
pub fn check_sums(steps: &[Step], session: &Session, lost: u64) {
    let (stats, usage) = (session.stats(), session.usage());
    let count = |source| steps.iter().filter(|step| step.source == source).count() as u64;
    let sum = |of: fn(&Step) -> u64| steps.iter().map(of).sum::<u64>();
    assert_eq!(stats.tokens, steps.len() as u64);
    assert_eq!(stats.tokens, stats.local + stats.cloud + stats.corrections + stats.fallback);
    assert_eq!(stats.corrections, count(Source::Correction));
    assert_eq!(stats.local, count(Source::Local));
    assert_eq!(stats.cloud, count(Source::Cloud));
    assert_eq!(stats.fallback, count(Source::Fallback));
    let local_time: Duration = steps.iter().map(|step| step.local_time).sum();
    assert_eq!(stats.local_time, local_time);
    assert_eq!(usage.consults, sum(|step| step.consulted.into()) + lost);
    assert_eq!(usage.failures, sum(|step| step.failure.is_some().into()) + lost);
    assert_eq!(usage.bytes_sent, sum(|step| step.bytes_sent) + 100 * lost);
    assert_eq!(usage.bytes_received, sum(|step| step.bytes_received) + 10 * lost);
    assert_eq!(usage.answer_tokens, sum(|step| step.answer_tokens));
    assert_eq!(usage.cloud_time, Duration::from_millis(3 * usage.consults));
    assert!(lost > 0 || usage.billed_prompt_tokens == sum(|step| step.billed_prompt_tokens));
}

/// All that steps say, but for their times.
fn told(steps: &[Step]) -> Vec<String> {
    let alike = |step: &Step| Step { local_time: Duration::ZERO, ..step.clone() };
    steps.iter().map(|step| format!("{:?}", alike(step))).collect()
}

/// What the test believes of the session.
#[derive(Default)]
struct Model {
    ids: Vec<u32>,
    steps: Vec<Step>,
    prompt_tokens: u64,
}

/// What a schedule is played with.
#[derive(Debug, Clone, Copy)]
struct Way {
    shares: bool,
    after: bool,
    burst: u32,
    hand_back: bool,
    draft: u32,
    corrections: u32,
    /// Tokens that the SLM can forget one by one.
    exact: usize,
    mode: Mode,
    rescue: u32,
    overlap: u32,
    temperature: f32,
    share: Option<f64>,
}

const HYBRID: Way = Way {
    shares: true,
    after: false,
    burst: 1,
    hand_back: false,
    draft: 0,
    corrections: 0,
    exact: usize::MAX,
    mode: Mode::Hybrid,
    rescue: 0,
    overlap: 0,
    temperature: 0.0,
    share: None,
};

/// Two tokens, which depend on the context.
fn steady() -> Script {
    Arc::new(|r| ids(&[byte(b'a' + (hash(r.ids) % 20) as u8), byte(b'!')]))
}

fn play(acts: &[Act], way: Way) -> (Session, Model) {
    play_on(acts, endless(), moody(), way)
}

fn play_on(acts: &[Act], next: Next, script: Script, way: Way) -> (Session, Model) {
    let Way { shares, after, burst, hand_back, draft, corrections, exact, mode, .. } = way;
    let tokens = byte_level();
    let cloud = FakeCloud::new(shares, script);
    let mut bench = Bench::weak(next, &cloud);
    (bench.capacity, bench.exact, bench.after) = (40, exact, after);
    bench.score = Arc::new(|f| (hash(&[f.candidate]) % 4) as f32 / 3.0);
    bench.options.stop_strings = vec!["xy€".into()];
    bench.options.draft = draft;
    bench.gate.mode = mode;
    bench.sampling.temperature = way.temperature;
    bench.sampling.repetition_penalty = 1.0 + way.temperature;
    bench.budget.hold = way.share.map(Hold::Share);
    (bench.consult.burst, bench.consult.hand_back) = (burst, hand_back);
    (bench.consult.rescue, bench.consult.overlap) = (way.rescue, way.overlap);
    bench.corrections = CorrectionOptions { capacity: corrections, suffix: 1000 };
    let mut session = bench.session();
    let cancel = Cancel::new();
    session.set_cancel(cancel.clone());
    let mut model = Model::default();
    for act in acts {
        match *act {
            Act::Step => match session.step() {
                Ok(step) => {
                    let bytes =
                        if tokens.is_stop(step.token) { &[] } else { tokens.bytes(step.token) };
                    assert_eq!(step.bytes, bytes);
                    let greedy = way.temperature == 0.0 && way.rescue == 0;
                    let compares = hand_back && mode == Mode::Hybrid;
                    if greedy && (step.reason != Reason::Burst || compares) {
                        let want = (bench.next)(&model.ids);
                        assert_eq!(step.candidate, want, "the SLM saw another context");
                    }
                    model.ids.push(step.token);
                    model.steps.push(step);
                }
                Err(Error::State(_) | Error::ContextFull { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            Act::Peek => {
                if let Ok(peek) = session.peek() {
                    assert_eq!(session.peek().unwrap().candidate, peek.candidate);
                }
            }
            Act::Rewind(n) => match session.rewind(n) {
                Ok(()) => model.ids.truncate(model.ids.len() - n),
                Err(_) => assert!(n > model.ids.len()),
            },
            Act::Prompt(text) => match session.prompt(text) {
                Ok(()) => {
                    let ids = tokens.encode(text, true).unwrap();
                    model.prompt_tokens += ids.len() as u64;
                    model.ids.extend(ids);
                }
                Err(error) => assert!(matches!(error, Error::ContextFull { .. }), "{error}"),
            },
            Act::Cancel => {
                cancel.raise();
                assert!(matches!(session.step(), Err(Error::Cancelled)));
                cancel.lower();
            }
            Act::Reset => {
                session.reset();
                model.ids.clear();
            }
            Act::Touch => {
                session.set_sampling(session.sampling()).unwrap();
                session.set_gate(session.gate()).unwrap();
                session.set_consult(session.consult()).unwrap();
                session.set_budget(session.budget()).unwrap();
                session.set_corrections(session.corrections()).unwrap();
                session.set_logit_bias(&[]).unwrap();
            }
            Act::Wait(millis) => {
                bench.millis.fetch_add(millis, Relaxed);
            }
        }
        assert_eq!(session.tokens(), model.ids);
        let bytes: Vec<u8> =
            model.ids.iter().flat_map(|&id| tokens.bytes_with_special(id)).copied().collect();
        assert_eq!(session.conversation.context.bytes(), bytes);
        assert!(session.len() <= 40);
    }
    (session, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_context_is_what_was_handed_out(
        acts in acts(),
        shares: bool,
        after: bool,
        burst in 1..5u32,
        mode in prop::sample::select(vec![Mode::Hybrid, Mode::CloudFirst, Mode::LocalOnly]),
    ) {
        let (session, model) = play(&acts, Way { shares, after, burst, mode, ..HYBRID });
        check_sums(&model.steps, &session, 0);
        prop_assert_eq!(session.stats().prompt_tokens, model.prompt_tokens);
    }

    /// Scoring before or after the candidate was consumed changes the SLM's work, never a token.
    #[test]
    fn the_way_of_scoring_changes_no_token(acts in acts(), burst in 1..5u32) {
        let (before, _) = play(&acts, Way { burst, ..HYBRID });
        let (after, _) = play(&acts, Way { burst, after: true, ..HYBRID });
        prop_assert_eq!(before.tokens(), after.tokens());
    }

    /// Handing back says whose a token is, never which: only tokens of bursts become the SLM's.
    #[test]
    fn handing_back_changes_no_token(acts in acts(), shares: bool, after: bool, burst in 1..20u32) {
        let way = Way { shares, after, burst, ..HYBRID };
        let (plain, all) = play(&acts, way);
        let (session, model) = play(&acts, Way { hand_back: true, ..way });
        prop_assert_eq!(session.tokens(), plain.tokens());
        for (ours, plain) in model.steps.iter().zip(&all.steps) {
            prop_assert_eq!(ours.consulted, plain.consulted);
            if ours.source != plain.source {
                prop_assert_eq!((ours.source, plain.reason), (Source::Local, Reason::Burst));
                prop_assert_eq!((ours.candidate, ours.reason), (ours.token, Reason::Confident));
                prop_assert!(ours.score >= session.threshold());
            }
        }
        check_sums(&model.steps, &session, 0);
    }

    /// Drafts that come true, in part or not at all change the SLM's work, nothing else.
    #[test]
    fn a_draft_changes_nothing(
        acts in acts(),
        after: bool,
        burst in 1..5u32,
        hand_back: bool,
        draft in 1..=7u32,
        period in 1..6usize,
        surprise in 2..30u32,
        hybrid: bool,
    ) {
        let next: Next = Arc::new(move |ids| match hash(ids) {
            hash if hash % surprise == 0 => 1 + hash % (PADDING - 1),
            _ => byte(b'a') + (ids.len() % period) as u32,
        });
        let play = |draft| {
            let way = match hybrid {
                true => Way { after, burst, hand_back, draft, ..HYBRID },
                false => Way { draft, mode: Mode::LocalOnly, ..HYBRID },
            };
            play_on(&acts, next.clone(), moody(), way)
        };
        let ((session, model), (plain, wanted)) = (play(draft), play(0));
        prop_assert_eq!(session.tokens(), plain.tokens());
        prop_assert_eq!(told(&model.steps), told(&wanted.steps));
        check_sums(&model.steps, &session, 0);
    }

    /// An SLM that must read again what it cannot go back to exactly says the same.
    #[test]
    fn reading_again_changes_nothing(
        acts in acts(),
        after: bool,
        burst in 1..5u32,
        rescue in 0..3u32,
        draft in 0..=7u32,
        exact in 8..12usize,
    ) {
        let way = Way { after, burst, rescue, draft, ..HYBRID };
        let ((session, model), (plain, wanted)) =
            (play(&acts, Way { exact, ..way }), play(&acts, way));
        prop_assert_eq!(session.tokens(), plain.tokens());
        prop_assert_eq!(told(&model.steps), told(&wanted.steps));
    }

    /// However long a consult takes and however far the SLM gets meanwhile.
    #[test]
    fn overlap_changes_nothing(
        acts in acts(),
        (shares, after, hand_back) in any::<(bool, bool, bool)>(),
        (burst, rescue) in (1..5u32, 0..3u32),
        (overlap, draft) in (1..=20u32, 0..=7u32),
        corrections in prop::sample::select(vec![0, 2]),
        mode in prop::sample::select(vec![Mode::Hybrid, Mode::CloudFirst]),
        temperature in prop::sample::select(vec![0.0, 0.1, 2.0]),
        share in prop::sample::select(vec![None, Some(0.3)]),
        pace in 0..500u32,
        exact in prop::sample::select(vec![8, 11, usize::MAX]),
    ) {
        let play = |overlap| {
            let moody = moody();
            let script: Script = Arc::new(move |r| {
                (0..hash(r.ids) % (pace + 1)).for_each(|_| std::thread::yield_now());
                // Most weak candidates are right.
                if !hash(r.ids).is_multiple_of(3) { ids(&[endless()(r.ids)]) } else { moody(r) }
            });
            let way = Way {
                shares, after, burst, hand_back, draft, corrections, mode, rescue, overlap,
                temperature, share, exact,
            };
            play_on(&acts, endless(), script, way)
        };
        let ((session, model), (plain, wanted)) = (play(overlap), play(0));
        prop_assert_eq!(session.tokens(), plain.tokens());
        prop_assert_eq!(told(&model.steps), told(&wanted.steps));
        prop_assert_eq!(session.usage(), plain.usage());
        prop_assert_eq!(session.threshold(), plain.threshold());
        prop_assert_eq!(session.save_corrections(), plain.save_corrections());
        let goes_on_from = |session: &Session| {
            let conversation = &session.conversation;
            let (held, stopped) = conversation.text.held();
            let burst = (conversation.burst.clone(), conversation.burst_source);
            (session.proposer.drawn(), burst, held.to_vec(), stopped, conversation.end)
        };
        prop_assert_eq!(goes_on_from(&session), goes_on_from(&plain));
        check_sums(&model.steps, &session, 0);
    }

    /// The cloud LLM says the same in the same place, so what it said before can take its place.
    /// Whole contexts are compared, and a capacity of two forgets.
    #[test]
    fn corrections_change_no_token(acts in acts(), after: bool, burst in 1..5u32) {
        let acts: Vec<Act> = acts.into_iter().filter(|act| !matches!(act, Act::Wait(_))).collect();
        let way = Way { after, burst, ..HYBRID };
        let (plain, all) = play_on(&acts, endless(), steady(), way);
        for corrections in [2, 100] {
            let way = Way { corrections, ..way };
            let (session, model) = play_on(&acts, endless(), steady(), way);
            prop_assert_eq!(session.tokens(), plain.tokens());
            for (ours, plain) in model.steps.iter().zip(&all.steps) {
                prop_assert_eq!(ours.token, plain.token);
                if ours.source == Source::Correction {
                    prop_assert_eq!(plain.source, Source::Cloud);
                    prop_assert!(!ours.consulted);
                } else {
                    prop_assert_eq!(ours.source, plain.source);
                }
            }
            check_sums(&model.steps, &session, 0);
        }
    }

    /// Without rewinds and prompts in between, the text is that of the bytes.
    #[test]
    fn text_is_bytes(length in 1..39usize, shares: bool, burst in 1..5u32) {
        let acts = [vec![Act::Prompt("x")], vec![Act::Step; length]].concat();
        let (mut session, model) = play(&acts, Way { shares, burst, ..HYBRID });
        let bytes: Vec<u8> = model.steps.iter().flat_map(|step| step.bytes.clone()).collect();
        let text = text_of(&model.steps) + &session.flush();
        let whole = crate::tokens::to_text(&bytes);
        if model.steps.last().is_some_and(|step| step.end == End::StopString) {
            prop_assert!(whole.starts_with(&text));
        } else {
            prop_assert_eq!(text, whole);
        }
    }
}
