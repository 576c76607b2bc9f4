//! What a session does with bundles, whatever their models remember: for `scripts/check-models`.
//!
//!     life BUNDLE...
//!
//! A text is written in one go. Then it is written with drafts and peeks, rewound near and far,
//! forked, saved and restored, interrupted by a prompt that is cancelled, and as a chat whose last
//! turn is taken back. Tokens and scores must be the same to the last bit. Exit status 1: they are
//! not.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hybrid::reward::ScoreKind;
use hybrid::session::{Gate, Model, ModelOptions, Session, SessionOptions};
use hybrid::tokens::Message;
use hybrid::{Cancel, Error};

/// Tokens and their scores.
type Told = Vec<(u32, u32)>;

/// A way to the same text.
type Way = fn(&Life) -> Result<()>;

/// More than a cache that forgets can go back exactly.
const WRITTEN: usize = 100;

fn main() -> Result<()> {
    let bundles: Vec<String> = std::env::args().skip(1).collect();
    if bundles.is_empty() {
        bail!("usage: life BUNDLE...");
    }
    for bundle in bundles {
        let model = Model::open(Path::new(&bundle), ModelOptions::default())?;
        check(Arc::new(model)).with_context(|| bundle)?;
    }
    Ok(())
}

fn check(model: Arc<Model>) -> Result<()> {
    let life = Life::new(model)?;
    let ways: [(&str, Way); 7] = [
        ("drafted and peeked at", Life::drafts),
        ("rewound", Life::rewinds),
        ("with its prompt in two parts", Life::parts),
        ("forked", Life::forks),
        ("saved and restored", Life::saves),
        ("interrupted", Life::interrupts),
        ("as a chat", Life::chats),
    ];
    for (what, way) in ways {
        way(&life).with_context(|| what)?;
    }
    Ok(())
}

struct Life {
    model: Arc<Model>,
    /// Longer than windows and what is kept beside them, where the context is.
    prompt: String,
    told: Told,
}

impl Life {
    fn new(model: Arc<Model>) -> Result<Life> {
        let room = model.slm.context_limit().saturating_sub(WRITTEN);
        let letter = |at: usize| char::from(b'a' + (at * at % 23) as u8);
        let prompt = (0..420.min(room / 2)).map(letter).collect();
        let mut life = Life { model, prompt, told: Vec::new() };
        life.told = write(&mut life.prompted(0)?, WRITTEN)?;
        ensure!(life.told.len() == WRITTEN, "only {} tokens were written", life.told.len());
        Ok(life)
    }

    fn session(&self, draft: u32) -> Result<Session> {
        let options = SessionOptions { draft, ..SessionOptions::default() };
        let mut session = Session::new(self.model.clone(), None, options)?;
        session.set_gate(Gate { score: ScoreKind::MaxProbability, ..Gate::default() })?;
        // The end of the text never comes.
        let stops = &self.model.tokens.info().stop;
        let never: Vec<_> = stops.iter().map(|&id| (id, f32::NEG_INFINITY)).collect();
        session.set_logit_bias(&never)?;
        Ok(session)
    }

    fn prompted(&self, draft: u32) -> Result<Session> {
        let mut session = self.session(draft)?;
        session.prompt(&self.prompt)?;
        Ok(session)
    }

    /// One that has written `count` tokens.
    fn after(&self, count: usize) -> Result<Session> {
        let mut session = self.prompted(0)?;
        write(&mut session, count)?;
        Ok(session)
    }

    /// The last `count` tokens come again.
    fn goes_on(&self, session: &mut Session, count: usize) -> Result<()> {
        let told = write(session, count)?;
        ensure!(told == self.told[WRITTEN - count..], "another text in the last {count} tokens");
        Ok(())
    }

    fn drafts(&self) -> Result<()> {
        for draft in [2, 7] {
            self.goes_on(&mut self.prompted(draft)?, WRITTEN)?;
        }
        let mut session = self.prompted(0)?;
        for (id, score) in &self.told {
            let peeked = session.peek()?;
            ensure!((peeked.candidate, peeked.score.to_bits()) == (*id, *score), "peeked");
            write(&mut session, 1)?;
        }
        Ok(())
    }

    fn rewinds(&self) -> Result<()> {
        let mut session = self.after(WRITTEN)?;
        for count in [1, 40, 95, 100, 3, 95] {
            session.rewind(count)?;
            self.goes_on(&mut session, count)?;
        }
        session.reset();
        session.prompt(&self.prompt)?;
        self.goes_on(&mut session, WRITTEN)
    }

    /// As firmware does that keeps the first part for its next question.
    fn parts(&self) -> Result<()> {
        let (first, second) = self.prompt.split_at(self.prompt.len() / 2);
        let mut session = self.session(0)?;
        session.prompt(first)?;
        let kept = session.len();
        for _ in 0..3 {
            session.prompt(second)?;
            self.goes_on(&mut session, WRITTEN)?;
            session.rewind(session.len() - kept)?;
        }
        Ok(())
    }

    fn forks(&self) -> Result<()> {
        let mut session = self.after(WRITTEN - 70)?;
        let mut fork = session.fork()?;
        self.goes_on(&mut session, 70)?;
        self.goes_on(&mut fork, 70)?;
        for session in [&mut session, &mut fork] {
            session.rewind(90)?;
            let mut late = session.fork()?;
            self.goes_on(session, 90)?;
            self.goes_on(&mut late, 90)?;
        }
        Ok(())
    }

    fn saves(&self) -> Result<()> {
        let mut session = self.after(WRITTEN - 70)?;
        let mut state = Vec::new();
        session.save(&mut |part| state.extend_from_slice(part));
        ensure!(state.len() == session.state_bytes(), "state_bytes is wrong");
        let mut restored = self.session(0)?;
        restored.restore(&state)?;
        self.goes_on(&mut restored, 70)?;
        restored.rewind(90)?;
        self.goes_on(&mut restored, 90)?;
        // In the middle of a draft, and after it went back.
        let mut drafting = self.prompted(7)?;
        write(&mut drafting, WRITTEN - 5)?;
        drafting.rewind(45)?;
        write(&mut drafting, 5)?;
        state.clear();
        drafting.save(&mut |part| state.extend_from_slice(part));
        session.restore(&state)?;
        self.goes_on(&mut session, 45)
    }

    /// A candidate is known when a prompt is cancelled, early, late or not at all.
    fn interrupts(&self) -> Result<()> {
        let mut session = self.after(WRITTEN - 5)?;
        for micros in [0, 100, 300, 1000, 3000] {
            session.peek()?;
            let before = session.len();
            let cancel = Cancel::new();
            session.set_cancel(cancel.clone());
            let prompted = thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_micros(micros));
                    cancel.raise();
                });
                session.prompt(&self.prompt[..self.prompt.len() / 2])
            });
            session.set_cancel(Cancel::new());
            match prompted {
                Ok(()) => session.rewind(session.len() - before)?,
                Err(Error::Cancelled) => {}
                Err(error) => return Err(error.into()),
            }
            self.goes_on(&mut session, 5)?;
            session.rewind(5)?;
        }
        Ok(())
    }

    fn chats(&self) -> Result<()> {
        let user = |content: &str| [Message { role: "user".into(), content: content.into() }];
        let mut session = self.session(0)?;
        session.chat(&user(&self.prompt[..self.prompt.len() / 2]))?;
        let first = write(&mut session, 20)?;
        let before = session.len();
        session.chat(&user("And now?"))?;
        let second = write(&mut session, 80)?;
        session.rewind(session.len() - before)?;
        session.chat(&user("And now?"))?;
        ensure!(write(&mut session, 80)? == second, "another answer");
        let ids = session.tokens().to_vec();
        let mut fresh = self.session(0)?;
        fresh.prompt_tokens(&ids[..ids.len() - 80])?;
        ensure!(write(&mut fresh, 80)? == second, "another answer to the same ids");
        fresh.reset();
        fresh.prompt_tokens(&ids[..before - 20])?;
        ensure!(write(&mut fresh, 20)? == first, "another first answer to the same ids");
        Ok(())
    }
}

fn write(session: &mut Session, count: usize) -> Result<Told> {
    let mut told = Told::new();
    session.run(count, &mut |step| {
        told.push((step.token, step.score.to_bits()));
        true
    })?;
    Ok(told)
}
