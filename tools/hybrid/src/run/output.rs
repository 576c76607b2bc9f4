//! What `hybrid run` shows: the text as it comes, and what it took.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use hybrid::Error;
use hybrid::session::{End, Session, Source, Stats, Step, Usage};

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model or a stop string ended it.
    End,
    MaxTokens(usize),
    /// The context of so many tokens is full.
    Context(usize),
    /// By Ctrl-C or another signal.
    Interrupt,
}

/// Writes the text token by token, and ends the line however it ends.
pub fn generate(session: &mut Session, max_tokens: usize) -> Result<Stop> {
    let mut out = io::stdout().lock();
    let coloured = out.is_terminal();
    let mut written = Ok(());
    let ended = session.run(max_tokens, &mut |step| {
        written = write_step(&mut out, step, coloured);
        written.is_ok()
    });
    written
        .and_then(|()| writeln!(out, "{}", session.flush()))
        .context("cannot write the output")?;
    match ended {
        Ok(End::None) => Ok(Stop::MaxTokens(max_tokens)),
        Ok(_) => Ok(Stop::End),
        Err(Error::ContextFull { limit, .. }) => Ok(Stop::Context(limit)),
        Err(Error::Cancelled) => Ok(Stop::Interrupt),
        Err(error) => Err(error.into()),
    }
}

fn write_step(out: &mut impl Write, step: &Step, coloured: bool) -> io::Result<()> {
    let colour = match step.source {
        Source::Local => None,
        Source::Cloud | Source::Correction => Some(32),
        Source::Fallback => Some(33),
    };
    match colour.filter(|_| coloured && !step.text.is_empty()) {
        Some(colour) => write!(out, "\x1b[{colour}m{}\x1b[0m", step.text)?,
        None => write!(out, "{}", step.text)?,
    }
    out.flush()
}

/// What people read, one line per subject; nothing of the cloud where there is none.
pub fn summary(stats: &Stats, usage: &Usage, has_cloud: bool, stop: Stop) -> String {
    let prompt_seconds = stats.prompt_time.as_secs_f64();
    let mut text = format!("prompt   {} tokens in {prompt_seconds:.2} s\n", stats.prompt_tokens);
    let per_second = per_second(stats, usage);
    let local = stats.local_time.as_secs_f64();
    if has_cloud {
        text += &tokens(stats);
        text += &consults(usage);
        text += &format!(
            "time     {local:.2} s local ({:.3} s scoring), {:.2} s cloud, \
             {per_second:.1} tokens/s\n",
            stats.score_time.as_secs_f64(),
            usage.cloud_time.as_secs_f64(),
        );
    } else {
        let tokens = stats.tokens;
        text += &format!("tokens   {tokens} in {local:.2} s, {per_second:.1} tokens/s\n");
    }
    text + &match stop {
        // Of a signal the program itself speaks.
        Stop::End | Stop::Interrupt => String::new(),
        Stop::MaxTokens(tokens) => format!("stopped  after --max-tokens {tokens}\n"),
        Stop::Context(limit) => {
            format!("stopped  the context of {limit} tokens is full; --context sets its size\n")
        }
    }
}

/// Who wrote them. What there was none of and needs an option is left out.
fn tokens(stats: &Stats) -> String {
    let share = 100.0 * stats.cloud as f64 / stats.tokens.max(1) as f64;
    let mut text = format!("tokens   {}: {} local", stats.tokens, stats.local);
    if stats.rescued > 0 {
        text += &format!(" ({} rescued)", stats.rescued);
    }
    text += &format!(", {} cloud ({share:.1} %)", stats.cloud);
    if stats.corrections > 0 {
        text += &format!(", {} corrections", stats.corrections);
    }
    text + &format!(", {} fallback\n", stats.fallback)
}

fn consults(usage: &Usage) -> String {
    let mut text = format!(
        "consults {} ({} failed), {} bytes sent, {} received",
        usage.consults, usage.failures, usage.bytes_sent, usage.bytes_received
    );
    // Not every server says what it bills.
    if usage.billed_prompt_tokens > 0 {
        text += &format!(", {} prompt tokens billed", usage.billed_prompt_tokens);
    }
    text + &format!(", {} tokens answered\n", usage.answer_tokens)
}

/// What programs read: the same fields always.
pub fn figures(stats: &Stats, usage: &Usage) -> String {
    format!(
        "tokens={} cloud={} fallback={} consults={} tok_s={:.2}\n",
        stats.tokens,
        stats.cloud,
        stats.fallback,
        usage.consults,
        per_second(stats, usage)
    )
}

fn per_second(stats: &Stats, usage: &Usage) -> f64 {
    let seconds = (stats.local_time + usage.cloud_time).as_secs_f64();
    if seconds > 0.0 { stats.tokens as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hybrid::consult::Failure;
    use hybrid::policy::Reason;

    use super::*;

    #[test]
    fn a_summary_has_what_there_was() {
        let second = Duration::from_secs(1);
        let alone = Stats {
            prompt_tokens: 3,
            tokens: 8,
            local: 8,
            local_time: second,
            prompt_time: second,
            ..Stats::default()
        };
        let text = summary(&alone, &Usage::default(), false, Stop::End);
        assert_eq!(text, "prompt   3 tokens in 1.00 s\ntokens   8 in 1.00 s, 8.0 tokens/s\n");

        let usage = Usage {
            consults: 2,
            failures: 1,
            bytes_sent: 9,
            bytes_received: 7,
            answer_tokens: 2,
            cloud_time: second,
            ..Usage::default()
        };
        let helped = Stats { local: 5, cloud: 2, fallback: 1, ..alone };
        let text = summary(&helped, &usage, true, Stop::MaxTokens(8));
        let lines = [
            "prompt   3 tokens in 1.00 s",
            "tokens   8: 5 local, 2 cloud (25.0 %), 1 fallback",
            "consults 2 (1 failed), 9 bytes sent, 7 received, 2 tokens answered",
            "time     1.00 s local (0.000 s scoring), 1.00 s cloud, 4.0 tokens/s",
            "stopped  after --max-tokens 8",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
        assert_eq!(figures(&helped, &usage), "tokens=8 cloud=2 fallback=1 consults=2 tok_s=4.00\n");

        let all = Stats { local: 4, rescued: 2, corrections: 1, ..helped };
        assert!(
            tokens(&all)
                .ends_with("4 local (2 rescued), 2 cloud (25.0 %), 1 corrections, 1 fallback\n")
        );
        assert!(
            consults(&Usage { billed_prompt_tokens: 6, ..usage })
                .contains("6 prompt tokens billed")
        );
    }

    #[test]
    fn colours() {
        let step = |source| Step {
            token: 1,
            bytes: b"x".to_vec(),
            text: "x".into(),
            source,
            reason: Reason::Weak,
            score: 0.0,
            candidate: 1,
            failure: None::<Failure>,
            consulted: false,
            http_status: 0,
            bytes_sent: 0,
            bytes_received: 0,
            billed_prompt_tokens: 0,
            answer_tokens: 0,
            local_time: Duration::ZERO,
            cloud_time: Duration::ZERO,
            end: End::None,
            logprobs: Vec::new(),
        };
        let rows = [
            (Source::Local, true, "x"),
            (Source::Cloud, true, "\x1b[32mx\x1b[0m"),
            (Source::Fallback, true, "\x1b[33mx\x1b[0m"),
            (Source::Cloud, false, "x"),
        ];
        for (source, coloured, want) in rows {
            let mut out = Vec::new();
            write_step(&mut out, &step(source), coloured).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
