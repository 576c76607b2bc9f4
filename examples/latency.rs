//! How long answers take with a cloud LLM that is some milliseconds away: the program behind
//! `scripts/latency`.
//!
//!     latency BUNDLE PROMPTS COUNT TOKENS OVERLAP SHARE...
//!
//! The first COUNT prompts of the file (`scripts/tools/mbpp_prompts.py` writes such) are answered
//! with up to TOKENS tokens each: by the SLM alone, by the cloud LLM alone, and at each share
//! without overlap and with OVERLAP. All ways take turns, and each begins when both models have
//! read the prompt. It prints a line of JSON for each answer. The server is that of the variables
//! HYBRID_CLOUD_URL, _CA and _TOKEN.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hybrid::Cancel;
use hybrid::bundle::Verify;
use hybrid::cloud::{Cloud, CloudOptions, Roots, ServerKind};
use hybrid::consult::{Consult, Request};
use hybrid::policy::Mode;
use hybrid::reward::Threshold;
use hybrid::session::{ConsultOptions, Gate, Model, ModelOptions, Session, SessionOptions};
use hybrid::tokens::Message;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, prompts, count, tokens, overlap, shares @ ..] = arguments.as_slice() else {
        bail!("usage: latency BUNDLE PROMPTS COUNT TOKENS OVERLAP SHARE...");
    };
    let tokens: u32 = tokens.parse()?;
    let mut ways = vec![
        Way { name: "local", mode: Mode::LocalOnly, ..Way::default() },
        Way { name: "cloud", mode: Mode::CloudFirst, burst: tokens, ..Way::default() },
    ];
    for share in shares {
        let way = Way { name: "plain", share: share.parse()?, ..Way::default() };
        ways.push(way);
        ways.push(Way { name: "overlap", overlap: overlap.parse()?, ..way });
    }
    let options = ModelOptions { verify: Verify::AllButWeights, ..ModelOptions::default() };
    let model = Arc::new(Model::open(Path::new(bundle), options)?);
    let cloud = Arc::new(client()?);
    cloud.probe(&*model.tokens, &Cancel::new())?;
    let prompts = std::fs::read_to_string(prompts).with_context(|| prompts.clone())?;
    for (turn, prompt) in prompts.lines().take(count.parse()?).enumerate() {
        let prompt = serde_json::from_str(prompt)?;
        // Neither of two ways always comes first.
        ways.rotate_left(turn % 2);
        for way in &ways {
            println!("{}", way.answer(&model, &cloud, &prompt, tokens)?);
        }
    }
    Ok(())
}

fn client() -> Result<Cloud> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    Ok(Cloud::new(CloudOptions {
        url: variable("HYBRID_CLOUD_URL")?,
        server: ServerKind::LlamaCpp,
        token: variable("HYBRID_CLOUD_TOKEN").ok().filter(|token| !token.is_empty()),
        roots: Roots::PemFile(variable("HYBRID_CLOUD_CA")?.into()),
        ..CloudOptions::default()
    })?)
}

/// How answers are written.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    mode: Mode,
    share: f32,
    burst: u32,
    overlap: u32,
}

impl Default for Way {
    fn default() -> Self {
        Way { name: "", mode: Mode::Hybrid, share: 0.0, burst: 1, overlap: 0 }
    }
}

impl Way {
    fn answer(
        &self,
        model: &Arc<Model>,
        cloud: &Arc<Cloud>,
        prompt: &Value,
        tokens: u32,
    ) -> Result<Value> {
        let mut session = self.session(model, cloud, prompt)?;
        warm(cloud, &session, model)?;
        let (mut text, mut agreed) = (String::new(), 0);
        let start = Instant::now();
        session.run(tokens as usize, &mut |step| {
            text += &step.text;
            agreed += u32::from(step.answer_tokens > 0 && step.token == step.candidate);
            true
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let (stats, usage) = (session.stats(), session.usage());
        Ok(json!({
            "prompt": prompt["id"], "way": self.name, "share": self.share, "text": text,
            "seconds": seconds, "tokens": stats.tokens, "consults": usage.consults,
            "failures": usage.failures, "agreed": agreed,
            "cloud_seconds": usage.cloud_time.as_secs_f64(),
            "overlap_seconds": stats.overlap_time.as_secs_f64(),
        }))
    }

    /// One that has read the prompt.
    fn session(&self, model: &Arc<Model>, cloud: &Arc<Cloud>, prompt: &Value) -> Result<Session> {
        let options =
            SessionOptions { stop_strings: vec!["\n```".into()], ..SessionOptions::default() };
        let mut session = Session::new(model.clone(), Some(cloud.clone()), options)?;
        let threshold = match self.mode {
            Mode::Hybrid => Threshold::Share(self.share),
            _ => Threshold::Default,
        };
        session.set_gate(Gate { mode: self.mode, threshold, ..Gate::default() })?;
        session.set_consult(ConsultOptions {
            burst: self.burst,
            overlap: self.overlap,
            deadline: DEADLINE,
            ..ConsultOptions::default()
        })?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let messages = prompt["messages"].as_array().context("a prompt without messages")?;
        let message = |m: &Value| Message { role: text(&m["role"]), content: text(&m["content"]) };
        session.chat(&messages.iter().map(message).collect::<Vec<_>>())?;
        session.prompt(&text(&prompt["prefill"]))?;
        Ok(session)
    }
}

/// The server has this prompt in its cache, and nothing after it.
fn warm(cloud: &Cloud, session: &Session, model: &Model) -> Result<()> {
    let (answer, _) = cloud.consult(&Request {
        ids: session.tokens(),
        vocabulary: &model.tokens.info().fingerprint,
        bytes: session.text().as_bytes(),
        chat: None,
        max_tokens: 1,
        deadline: Instant::now() + DEADLINE,
        cancel: &Cancel::new(),
    });
    answer.map(drop).context("the server does not answer")
}
