//! Sessions on a real model: what scripts in the place of the SLM cannot show.

mod models;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hybrid::bundle::Blob;
use hybrid::cloud::{Cloud, CloudOptions};
use hybrid::consult::{Answer, Consult, Continuation, Cost, Failure, Request};
use hybrid::policy::{Mode, Reason};
use hybrid::reward::{ScoreKind, Threshold};
use hybrid::sampler::Sampling;
use hybrid::session::{
    ConsultOptions, End, Gate, Model, ModelOptions, Session, SessionOptions, Source, Tokenize,
};
use hybrid::tokens::{MAX_TEXT_BYTES, Message};
use hybrid::{Cancel, Error};

use models::{ids, local, open, steps, text};
use support::{Identity, Reaction, Server};

const SMOLLM2: &str = "smollm2";
const STORY: &str = "Once upon a time, in a small village by the sea,";

fn user(content: &str) -> Message {
    Message { role: "user".into(), content: content.into() }
}

#[test]
fn a_chat_of_two_turns() {
    let model = open(SMOLLM2);
    let mut session = local(&model, SessionOptions::default());
    session.chat(&[user("Hello! Who are you?")]).unwrap();
    let first = steps(&mut session, 60);
    assert!(text(&first).contains("help"), "{}", text(&first));
    assert_eq!(first.last().unwrap().end, End::StopToken);
    let before = session.len();
    session.chat(&[user("Tell me a story.")]).unwrap();
    let added: Vec<u8> = session.tokens()[before..]
        .iter()
        .flat_map(|&id| model.tokens.bytes_with_special(id))
        .copied()
        .collect();
    let turn = "\n<|im_start|>user\nTell me a story.<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(String::from_utf8(added).unwrap(), turn, "no second system message");
    assert!(text(&steps(&mut session, 20)).len() > 20);
}

/// Down to the probabilities, with prompts of several chunks.
#[test]
fn threads_change_nothing() {
    let story = |threads| {
        let model = models::open_with_threads(SMOLLM2, threads);
        let mut session = local(&model, SessionOptions::default());
        session.prompt(&STORY.repeat(20)).unwrap();
        assert!(session.len() > 200);
        let steps = steps(&mut session, 40);
        steps.into_iter().map(|step| (step.token, step.score.to_bits())).collect::<Vec<_>>()
    };
    let alone = story(0);
    assert!(alone.iter().any(|(_, score)| *score != 0), "nothing was scored");
    for threads in [2, 3] {
        assert_eq!(story(threads), alone, "{threads} threads");
    }
}

/// Every way to the same context gives the same tokens: once more, rewound, peeked at, scored.
#[test]
fn greedy_text_does_not_depend_on_the_way() {
    let model = open(SMOLLM2);
    let prompted = |gate| {
        let mut session = local(&model, SessionOptions::default());
        session.set_gate(gate).unwrap();
        session.prompt(STORY).unwrap();
        session
    };
    let mut session = prompted(Gate { mode: Mode::LocalOnly, ..Gate::default() });
    let first = ids(&steps(&mut session, 24));
    session.rewind(10).unwrap();
    session.peek().unwrap();
    assert_eq!(ids(&steps(&mut session, 10)), first[14..]);
    session.reset();
    session.prompt(STORY).unwrap();
    assert_eq!(ids(&steps(&mut session, 24)), first);
    use ScoreKind::*;
    for score in [Auto, MaxProbability, Margin, Entropy, Random, Sampled] {
        let mut session = prompted(Gate { score, ..Gate::default() });
        let scored = steps(&mut session, 24);
        assert_eq!(ids(&scored), first, "{score:?}");
        assert!(scored.iter().all(|step| (0.0..=1.0).contains(&step.score)), "{score:?}");
    }
}

/// A cloud LLM that is slow, knows one text, and sometimes says another token or nothing.
struct Moody {
    text: Vec<u32>,
    other: u32,
}

impl Consult for Moody {
    fn consult(&self, request: &Request) -> (Result<Answer, Failure>, Cost) {
        let turn = request.ids.len() as u64;
        thread::sleep(Duration::from_millis(turn % 4 * 7));
        let known = self.text.starts_with(request.ids).then(|| self.text.get(request.ids.len()));
        let token = match turn % 7 {
            3 => Some(self.other),
            _ => known.flatten().copied(),
        };
        let answer =
            token.map(|id| Answer { continuation: Continuation::Ids(vec![id]), end: false });
        (answer.ok_or(Failure::Status), Cost::default())
    }

    fn shares_vocabulary(&self, _: &str) -> bool {
        true
    }
}

/// Down to the probabilities: the SLM goes on from what it has read during a consult, and where an
/// answer has stopped it in the middle of a token.
#[test]
fn overlap_changes_nothing() {
    let model = open(SMOLLM2);
    let start = |temperature, cloud: Option<Arc<dyn Consult>>| {
        let options = SessionOptions { seed: 3, ..SessionOptions::default() };
        let mut session = Session::new(model.clone(), cloud, options).unwrap();
        session.set_sampling(Sampling { temperature, ..Sampling::default() }).unwrap();
        session.set_gate(Gate { threshold: Threshold::Value(0.6), ..Gate::default() }).unwrap();
        session.prompt(STORY).unwrap();
        session
    };
    for temperature in [0.0, 0.7] {
        let mut alone = start(temperature, None);
        steps(&mut alone, 40);
        let other = model.tokenize(" and", Tokenize::default()).unwrap()[0];
        let cloud = Arc::new(Moody { text: alone.tokens().to_vec(), other });
        let told = |overlap| {
            let mut session = start(temperature, Some(cloud.clone()));
            let consult = ConsultOptions { overlap, ..ConsultOptions::default() };
            session.set_consult(consult).unwrap();
            let steps = steps(&mut session, 40);
            let read = session.stats().overlap_time > Duration::ZERO;
            let told = steps.iter().map(|s| (s.token, s.score.to_bits(), s.source, s.candidate));
            (told.collect::<Vec<_>>(), read)
        };
        let (plain, _) = told(0);
        let of = |source| plain.iter().filter(|(_, _, found, _)| *found == source).count();
        assert!(of(Source::Cloud) > 3 && of(Source::Local) > 3, "{plain:?}");
        for overlap in [1, 16] {
            assert_eq!(told(overlap), (plain.clone(), true), "{overlap}");
        }
    }
}

/// Down to the probabilities: a draft's rows are those of tokens that came one by one.
#[test]
fn a_draft_changes_nothing() {
    const REWRITE: &str = "<|im_start|>user\nRepeat this list of words.\none two three four five \
                           six seven eight nine ten eleven twelve one two three four five \
                           six<|im_end|>\n<|im_start|>assistant\none two three";
    let model = open(SMOLLM2);
    let told = |prompt: &str, temperature, draft| {
        let options = SessionOptions { draft, seed: 3, ..SessionOptions::default() };
        let mut session = local(&model, options);
        session.set_sampling(Sampling { temperature, ..Sampling::default() }).unwrap();
        session.prompt(prompt).unwrap();
        let steps = steps(&mut session, 40);
        steps.iter().map(|step| (step.token, step.score.to_bits())).collect::<Vec<_>>()
    };
    for (prompt, temperature) in [(REWRITE, 0.0), (STORY, 0.0), (REWRITE, 0.7)] {
        let plain = told(prompt, temperature, 0);
        for draft in [2, 7] {
            assert_eq!(told(prompt, temperature, draft), plain, "{draft}");
        }
    }
}

#[test]
fn seeds_repeat_a_text() {
    let model = open(SMOLLM2);
    let draw = |seed| {
        let mut session = local(&model, SessionOptions { seed, ..SessionOptions::default() });
        let sampling = Sampling {
            temperature: 0.9,
            top_k: 50,
            top_p: 0.95,
            repetition_penalty: 1.1,
            ..Sampling::default()
        };
        session.set_sampling(sampling).unwrap();
        session.prompt(STORY).unwrap();
        ids(&steps(&mut session, 24))
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

/// Down to the probabilities, also of a text that is drawn; into a session that holds something
/// else.
#[test]
fn a_saved_session_goes_on_where_it_was() {
    let model = open(SMOLLM2);
    for temperature in [0.0, 0.9] {
        let new = || {
            let mut session = local(&model, SessionOptions { seed: 1, ..Default::default() });
            session.set_sampling(Sampling { temperature, ..Sampling::default() }).unwrap();
            session
        };
        let rest = |session: &mut Session| {
            let steps = steps(session, 20);
            steps.iter().map(|step| (step.token, step.score.to_bits())).collect::<Vec<_>>()
        };
        let (mut session, mut other) = (new(), new());
        session.prompt(&STORY.repeat(12)).unwrap();
        assert!(session.len() > 128, "more than a chunk");
        steps(&mut session, 10);
        session.peek().unwrap();
        let mut state = Vec::new();
        session.save(&mut |piece| state.extend_from_slice(piece));
        assert_eq!(state.len(), session.state_bytes());
        other.prompt("Something else").unwrap();
        other.restore(&state).unwrap();
        assert_eq!(other.tokens(), session.tokens());
        assert_eq!(rest(&mut other), rest(&mut session));
        state[8] ^= 1;
        let error = other.restore(&state).unwrap_err().to_string();
        assert!(error.contains("another model"), "{error}");
    }
}

/// Down to the probabilities and to scores that are drawn, and each on a thread of its own.
#[test]
fn a_fork_goes_on_where_its_session_was() {
    let model = open(SMOLLM2);
    for (temperature, score) in [(0.0, ScoreKind::Auto), (0.9, ScoreKind::Random)] {
        let mut session = local(&model, SessionOptions { seed: 1, ..Default::default() });
        session.set_sampling(Sampling { temperature, ..Sampling::default() }).unwrap();
        session.set_gate(Gate { score, ..Gate::default() }).unwrap();
        session.prompt(&STORY.repeat(12)).unwrap();
        steps(&mut session, 10);
        session.peek().unwrap();
        let fork = session.fork().unwrap();
        let rest = |mut session: Session| {
            let steps = steps(&mut session, 20);
            steps.iter().map(|step| (step.token, step.score.to_bits())).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| rest(fork));
            assert_eq!(rest(session), other.join().unwrap());
        });
    }
}

#[test]
fn a_model_in_memory_writes_the_same() {
    let dir = models::bundle(SMOLLM2);
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let map = hybrid::bundle::map(&std::fs::File::open(entry.path()).unwrap()).unwrap();
        (entry.file_name().into_string().unwrap(), Blob::new(map))
    };
    let files = std::fs::read_dir(dir).unwrap().map(file).collect();
    let (mut last, mut calls) = ((0, 0), 0);
    let in_memory = Model::open_memory(files, ModelOptions::default(), &mut |done, total| {
        (last, calls) = ((done, total), calls + 1);
        true
    });
    assert!(last.0 == last.1 && calls > 10, "{last:?}, {calls} calls");
    let [ours, theirs] = [Arc::new(in_memory.unwrap()), open(SMOLLM2)].map(|model| {
        let mut session = local(&model, SessionOptions::default());
        session.prompt(STORY).unwrap();
        ids(&steps(&mut session, 12))
    });
    assert_eq!(ours, theirs);
}

/// As the SLM's own prompt and text, and back.
#[test]
fn a_model_tokenises() {
    let model = open(SMOLLM2);
    let text = "<|im_start|>naïve";
    let (prompt, plain) = (Tokenize { add_bos: true, control: true }, Tokenize::default());
    let [as_prompt, as_text] = [prompt, plain].map(|how| model.tokenize(text, how).unwrap());
    let mut session = local(&model, SessionOptions::default());
    session.prompt(text).unwrap();
    assert_eq!(session.tokens(), as_prompt);
    assert!(as_text.len() > as_prompt.len(), "the control token is text");
    assert_eq!(model.count_tokens(text, prompt).unwrap(), as_prompt.len());
    assert_eq!(model.count_tokens(text, plain).unwrap(), as_text.len());
    assert_eq!(model.detokenize(&as_text, false).unwrap(), text.as_bytes());
    assert_eq!(model.detokenize(&as_prompt, true).unwrap(), text.as_bytes());
    assert_eq!(model.detokenize(&as_prompt, false).unwrap(), "naïve".as_bytes());
    let error = model.detokenize(&[u32::MAX], true).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
}

#[test]
fn a_full_context_loses_nothing() {
    let model = open(SMOLLM2);
    let mut session = local(&model, SessionOptions { context: 16, ..Default::default() });
    assert!(matches!(session.prompt(&STORY.repeat(3)), Err(Error::ContextFull { used: 0, .. })));
    session.prompt(STORY).unwrap();
    let room = 16 - session.len();
    let first = ids(&steps(&mut session, room));
    assert!(matches!(session.step(), Err(Error::ContextFull { used: 16, needed: 1, limit: 16 })));
    session.rewind(room).unwrap();
    assert_eq!(ids(&steps(&mut session, room)), first);
}

/// From another thread, in the middle of a prompt that takes seconds.
#[test]
fn a_long_prompt_is_cancelled() {
    let model = open(SMOLLM2);
    let mut session = local(&model, SessionOptions::default());
    session.prompt(STORY).unwrap();
    let (cancel, before) = (Cancel::new(), session.len());
    session.set_cancel(cancel.clone());
    let raise = cancel.clone();
    let watchdog = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        raise.raise();
    });
    let long = STORY.repeat(4000 / before);
    assert!(matches!(session.prompt(&long), Err(Error::Cancelled)));
    watchdog.join().unwrap();
    assert_eq!((session.len(), session.stats().prompt_tokens), (before, before as u64));
    cancel.lower();
    let mut straight = local(&model, SessionOptions::default());
    straight.prompt(STORY).unwrap();
    assert_eq!(ids(&steps(&mut session, 8)), ids(&steps(&mut straight, 8)));
}

/// The cloud goes away in the middle: the text goes on, every token of it marked.
#[test]
fn the_cloud_is_unplugged() {
    const ANSWER: &str = r#"{"choices":[{"text":" and","finish_reason":"length"}],
        "usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
    let model = open(SMOLLM2);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::start(&Identity::good(), move |_| match count.fetch_add(1, Relaxed) {
        0..3 => Reaction::json(200, ANSWER),
        _ => Reaction::Close,
    });
    let options =
        CloudOptions { url: server.url(), roots: server.roots(), ..CloudOptions::default() };
    let cloud = Arc::new(Cloud::new(options).unwrap());
    let options = SessionOptions::default();
    let mut session = Session::new(model.clone(), Some(cloud), options).unwrap();
    session.set_gate(Gate { threshold: Threshold::Value(2.0), ..Gate::default() }).unwrap();
    let deadline = Duration::from_secs(20);
    session.set_consult(ConsultOptions { deadline, ..ConsultOptions::default() }).unwrap();
    session.prompt(STORY).unwrap();
    let steps = steps(&mut session, 12);
    assert_eq!(text(&steps[..3]), " and and and");
    assert!(steps[..3].iter().all(|step| step.source == Source::Cloud && step.bytes_sent > 0));
    assert!(steps[3..].iter().all(|step| step.source == Source::Fallback));
    assert!(steps[3..6].iter().all(|step| step.failure.is_some() && step.consulted));
    assert_eq!(steps[6].reason, Reason::BreakerOpen);
    let mut alone = local(&model, SessionOptions::default());
    alone.prompt(&format!("{STORY} and and and")).unwrap();
    assert_eq!(ids(&models::steps(&mut alone, 9)), ids(&steps[3..]), "the SLM goes on from there");
}

/// Texts that make careless tokenisers quadratic; the limit is loose, the failure would be hours.
#[test]
fn the_longest_texts_take_bounded_time() {
    let model = open(SMOLLM2);
    for piece in
        ["a", " ", "\n", "1", "é", "\u{301}", " \n", "a ", "!?", "日", "\0", "<|im_start|>"]
    {
        let text = piece.repeat(MAX_TEXT_BYTES / piece.len());
        let start = Instant::now();
        let ids = model.tokens.encode(&text, false).unwrap();
        assert_eq!(model.tokens.bytes_of(&ids), text.as_bytes());
        assert!(start.elapsed() < Duration::from_secs(60), "{piece:?}: {:?}", start.elapsed());
    }
}

#[test]
fn the_tool_runs_a_bundle() {
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(models::HYBRID);
        let output = command.arg("run").args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let dir = models::bundle(SMOLLM2);
    let dir = dir.to_str().unwrap();
    let (status, stdout, stderr) = run(&[dir, "--prompt", STORY, "--max-tokens", "5"]);
    assert_eq!((status, stdout.is_empty()), (Some(0), false));
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("tokens=5 cloud=0 fallback=0 consults=0 tok_s="), "{last}");
    let failures: [(&[&str], &str); 4] = [
        (&[dir, "--prompt", ""], "the prompt is empty"),
        (&[dir, "--prompt", "x", "--top-p", "7"], "top_p is 7"),
        (&[dir, "--prompt", "x", "--cloud-url", "http://example.com"], "https"),
        (&["no-such-folder", "--prompt", "x"], "no-such-folder"),
    ];
    for (arguments, part) in failures {
        let (status, _, stderr) = run(arguments);
        assert_eq!(status, Some(1), "{arguments:?}");
        assert!(stderr.contains("error: ") && stderr.contains(part), "{stderr}");
    }
}
