//! Scripts in the place of the SLM, the score, the cloud LLM and the clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::base::Base;
use super::super::proposer::Score;
use super::super::*;
use crate::breaker::SharedBreaker;
use crate::bundle::RewardInfo;
use crate::consult::{Answer, Continuation, Cost, Failure, Request};
use crate::policy::Budget;
use crate::reward::Features;
use crate::sealed::Fingerprint;
use crate::slm::{Output, Rows};
use crate::tokens::{ChatTemplate, example};

/// Rows of the output matrix: the usable ids and a little padding.
const VOCABULARY: usize = example::PADDING as usize + 2;

/// What the fake SLM would say next, from every token it has consumed.
pub type Next = Arc<dyn Fn(&[u32]) -> u32 + Send + Sync>;

/// A number that depends on every token and its place: a wrong feed or rewind shows in it.
pub fn hash(ids: &[u32]) -> u32 {
    ids.iter().fold(17, |hash, &id| (hash ^ id).wrapping_mul(16_777_619).rotate_left(5))
}

/// The hidden state after `ids`: exact in f32.
pub fn hidden(ids: &[u32]) -> f32 {
    (hash(ids) >> 8) as f32
}

/// Any usable token but the stop token, depending on everything before.
pub fn endless() -> Next {
    Arc::new(|ids| 1 + hash(ids) % (example::PADDING - 1))
}

/// The tokens of `text`, one byte each, then the stop token; wrong contexts give other tokens.
pub fn spelling(prompt: usize, text: &'static str) -> Next {
    Arc::new(move |ids| {
        let at = ids.len().wrapping_sub(prompt);
        text.as_bytes().get(at).map_or(example::END, |&byte| example::byte(byte))
    })
}

#[derive(Clone)]
struct FakeSlm {
    next: Next,
    ids: Vec<u32>,
    capacity: usize,
    /// Tokens that it can forget one by one; of more it forgets all.
    exact: usize,
    /// The most tokens it had since it forgot all.
    longest: usize,
    /// The length of every batch, negative for a rewind.
    log: Arc<Mutex<Vec<i64>>>,
    /// See [`Bench::stuck`].
    stuck: Arc<AtomicBool>,
}

impl FakeSlm {
    /// The row after all it has consumed.
    fn logits(&self) -> Vec<f32> {
        let mut logits: Vec<f32> = (0..VOCABULARY as u32)
            .map(|id| (hash(&[id, hash(&self.ids)]) % 97) as f32 / 97.0)
            .collect();
        logits[example::PADDING as usize..].fill(f32::NEG_INFINITY);
        logits[(self.next)(&self.ids) as usize] = 3.0;
        logits
    }
}

impl SlmState for FakeSlm {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn feed(&mut self, ids: &[u32], rows: Rows, cancel: &Cancel) -> Result<Output> {
        assert!(!ids.is_empty() && self.ids.len() + ids.len() <= self.capacity);
        if self.stuck.load(Relaxed) {
            wait_until(|| cancel.is_raised());
        }
        cancel.check()?;
        self.log.lock().unwrap().push(ids.len() as i64);
        let mut output = Output::default();
        for (at, &id) in ids.iter().enumerate() {
            self.ids.push(id);
            if rows == Rows::All || at + 1 == ids.len() {
                output.logits.extend(self.logits());
                output.hidden.push(hidden(&self.ids));
            }
        }
        self.longest = self.longest.max(self.ids.len());
        Ok(output)
    }

    fn rewind(&mut self, n: usize) -> Result<()> {
        assert!(n <= self.ids.len());
        if n > 0 {
            self.log.lock().unwrap().push(-(n as i64));
        }
        self.ids.truncate(self.ids.len() - n);
        if self.longest.saturating_sub(self.ids.len()) > self.exact {
            (self.ids, self.longest) = (Vec::new(), 0);
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn SlmState>> {
        Ok(Box::new(self.clone()))
    }

    /// Its cache is the tokens themselves.
    fn cache_bytes(&self, len: usize) -> Option<usize> {
        Some(4 * len)
    }

    fn write_cache(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        self.ids[..len].iter().for_each(|id| out(&id.to_le_bytes()));
    }

    fn read_cache(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        assert_eq!(bytes.len(), 4 * len);
        self.ids = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        self.longest = len;
        Ok(())
    }
}

struct FakeScore {
    after: bool,
    score: Arc<dyn Fn(&Features) -> f32 + Send + Sync>,
}

impl Score for FakeScore {
    fn needs_after(&self) -> bool {
        self.after
    }

    fn score(&mut self, features: &Features) -> Result<f32> {
        assert_eq!(features.hidden_after.is_some(), self.after);
        Ok((self.score)(features))
    }

    fn position(&self) -> u64 {
        0
    }

    fn set_position(&mut self, _: u64) {}
}

/// One scripted consult: sees the request, says what comes back.
pub type Script = Arc<dyn Fn(&Request) -> std::result::Result<Answer, Failure> + Send + Sync>;

/// Ids, bytes and the burst wanted.
pub type Asked = (Vec<u32>, Vec<u8>, u32);

/// A cloud LLM that costs 100 bytes up, 10 down and the context in prompt tokens.
pub struct FakeCloud {
    pub script: Script,
    pub shares_vocabulary: bool,
    pub needs_messages: AtomicBool,
    pub requests: Mutex<Vec<Asked>>,
    /// The breaker's time.
    pub millis: Arc<AtomicU64>,
    breaker: SharedBreaker,
}

impl FakeCloud {
    pub fn new(shares_vocabulary: bool, script: Script) -> Arc<FakeCloud> {
        let millis = Arc::new(AtomicU64::new(0));
        let clock = millis.clone();
        let now = move || Duration::from_millis(clock.load(Relaxed));
        let breaker = SharedBreaker::with(Box::new(now), Box::new(|| 0.5));
        let (requests, needs_messages) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(FakeCloud { script, shares_vocabulary, needs_messages, requests, millis, breaker })
    }

    pub fn calls(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Consult for FakeCloud {
    fn consult(&self, request: &Request) -> (std::result::Result<Answer, Failure>, Cost) {
        assert!(request.deadline > Instant::now());
        let (ids, bytes) = (request.ids.to_vec(), request.bytes.to_vec());
        let cost = Cost {
            bytes_sent: 100,
            bytes_received: 10,
            prompt_tokens: ids.len() as u64,
            elapsed: Duration::from_millis(3),
            ..Cost::default()
        };
        self.requests.lock().unwrap().push((ids, bytes, request.max_tokens));
        ((self.script)(request), cost)
    }

    fn shares_vocabulary(&self, _: &str) -> bool {
        self.shares_vocabulary
    }

    fn needs_messages(&self) -> bool {
        self.needs_messages.load(Relaxed)
    }

    fn breaker(&self) -> Option<&SharedBreaker> {
        Some(&self.breaker)
    }
}

pub fn ids(ids: &[u32]) -> std::result::Result<Answer, Failure> {
    Ok(Answer { continuation: Continuation::Ids(ids.to_vec()), end: false })
}

pub fn bytes(bytes: &[u8]) -> std::result::Result<Answer, Failure> {
    Ok(Answer { continuation: Continuation::Bytes(bytes.to_vec()), end: false })
}

/// The same every time.
pub fn always(answer: std::result::Result<Answer, Failure>) -> Script {
    Arc::new(move |_| answer.clone())
}

/// Makes sessions' scores and clocks.
struct FakeBase {
    model: Fingerprint,
    after: bool,
    score: Arc<dyn Fn(&Features) -> f32 + Send + Sync>,
    tokens: Arc<Tokens>,
    template: Option<Arc<ChatTemplate>>,
    exact_rows: bool,
    millis: Arc<AtomicU64>,
    clock_set: Arc<AtomicBool>,
}

impl Base for FakeBase {
    fn fingerprint(&self) -> Fingerprint {
        self.model
    }

    fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    fn chat_template(&self) -> Option<&ChatTemplate> {
        self.template.as_deref()
    }

    fn reward(&self) -> Option<&RewardInfo> {
        None
    }

    /// There is a head, but [`ScoreKind::Sampled`] cannot be opened.
    fn score_kind(&self, kind: ScoreKind) -> Result<ScoreKind> {
        Ok(if kind == ScoreKind::Auto { ScoreKind::Head } else { kind })
    }

    fn open_score(&self, kind: ScoreKind, _: u64) -> Result<Box<dyn Score>> {
        match kind {
            ScoreKind::Sampled => Err(Error::Bundle("no such score".into())),
            _ => Ok(Box::new(FakeScore { after: self.after, score: self.score.clone() })),
        }
    }

    fn rows_are_exact(&self) -> bool {
        self.exact_rows
    }

    fn clock(&self) -> Clock {
        let (millis, clock_set) = (self.millis.clone(), self.clock_set.clone());
        Clock {
            elapsed: Arc::new(move || Duration::from_millis(millis.load(Relaxed))),
            is_set: Arc::new(move || clock_set.load(Relaxed)),
        }
    }
}

/// A session to be built, and the handles that its scripts leave.
pub struct Bench {
    pub model: Fingerprint,
    pub next: Next,
    pub capacity: usize,
    /// See the SLM's.
    pub exact: usize,
    pub after: bool,
    pub score: Arc<dyn Fn(&Features) -> f32 + Send + Sync>,
    pub options: SessionOptions,
    pub sampling: Sampling,
    pub gate: Gate,
    pub consult: ConsultOptions,
    pub budget: Budget,
    pub corrections: CorrectionOptions,
    pub cloud: Option<Arc<FakeCloud>>,
    pub template: Option<&'static str>,
    /// See [`Base::rows_are_exact`].
    pub exact_rows: bool,
    pub log: Arc<Mutex<Vec<i64>>>,
    /// The SLM computes until it is stopped.
    pub stuck: Arc<AtomicBool>,
    /// The time of the session and of the cloud's breaker.
    pub millis: Arc<AtomicU64>,
    pub clock_set: Arc<AtomicBool>,
}

impl Bench {
    /// Hybrid with a score that is never weak and no cloud.
    pub fn new(next: Next) -> Bench {
        Bench {
            model: [0; 32],
            next,
            capacity: 1000,
            exact: usize::MAX,
            after: false,
            score: Arc::new(|_| 1.0),
            options: SessionOptions::default(),
            sampling: Sampling::default(),
            gate: Gate::default(),
            consult: ConsultOptions::default(),
            budget: Budget::default(),
            corrections: CorrectionOptions::default(),
            cloud: None,
            template: None,
            exact_rows: true,
            log: Arc::default(),
            stuck: Arc::default(),
            millis: Arc::default(),
            clock_set: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Every candidate is weak and `cloud` is asked.
    pub fn weak(next: Next, cloud: &Arc<FakeCloud>) -> Bench {
        let (cloud, millis) = (Some(cloud.clone()), cloud.millis.clone());
        Bench { score: Arc::new(|_| 0.0), cloud, millis, ..Bench::new(next) }
    }

    fn base(&self) -> FakeBase {
        let tokens = Arc::new(example::byte_level());
        FakeBase {
            model: self.model,
            after: self.after,
            score: self.score.clone(),
            template: self.template.map(|t| Arc::new(ChatTemplate::new(t, &tokens).unwrap())),
            tokens,
            exact_rows: self.exact_rows,
            millis: self.millis.clone(),
            clock_set: self.clock_set.clone(),
        }
    }

    fn slm(&self) -> FakeSlm {
        let (next, log, stuck) = (self.next.clone(), self.log.clone(), self.stuck.clone());
        let &Bench { capacity, exact, .. } = self;
        FakeSlm { next, ids: Vec::new(), capacity, exact, longest: 0, log, stuck }
    }

    /// The SLM's logits after `ids`.
    pub fn row(&self, ids: &[u32]) -> Vec<f32> {
        FakeSlm { ids: ids.to_vec(), ..self.slm() }.logits()
    }

    pub fn session(&self) -> Session {
        let (base, slm) = (Arc::new(self.base()), Box::new(self.slm()));
        let cloud = self.cloud.clone().map(|cloud| cloud as Arc<dyn Consult>);
        let mut session = Session::on(base, slm, cloud, self.options.clone()).unwrap();
        session.set_sampling(self.sampling).unwrap();
        session.set_gate(self.gate).unwrap();
        session.set_consult(self.consult).unwrap();
        session.set_budget(self.budget).unwrap();
        session.set_corrections(self.corrections).unwrap();
        session
    }

    /// A session with the prompt `>` (one token).
    pub fn prompted(&self) -> Session {
        let mut session = self.session();
        session.prompt(">").unwrap();
        session
    }

    /// What the SLM was fed (and, negative, rewound) since the last call.
    pub fn take_log(&self) -> Vec<i64> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// Steps until the end or `max`.
pub fn steps(session: &mut Session, max: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    session
        .run(max, &mut |step| {
            steps.push(step.clone());
            true
        })
        .unwrap();
    steps
}

pub fn text_of(steps: &[Step]) -> String {
    steps.iter().map(|step| step.text.as_str()).collect()
}

/// Waits for what another thread will do soon.
pub fn wait_until(done: impl Fn() -> bool) {
    let late = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < late, "it does not come");
        std::thread::sleep(Duration::from_micros(100));
    }
}
