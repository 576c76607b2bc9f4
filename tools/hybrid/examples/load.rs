//! Many boards ask one server: the program behind `scripts/load`.
//!
//!     load --cloud-url URL [--boards N] [--seconds N] [--every-ms N] [--burst N] [--deadline-ms N]
//!          [the options of `hybrid run` under "The cloud"]
//!
//! Each board is a thread with a client of its own, and so with its own connections and breaker. It
//! asks every so often to continue a text that grows with each answer; all texts begin alike, as
//! those of one firmware do. Boards begin one after the other. Reports what the server sustained,
//! and what the breakers did. Exit status 1: no consult was answered.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Command, value_parser};
use hybrid::Cancel;
use hybrid::breaker::BreakerState;
use hybrid::cloud::{Cloud, CloudOptions};
use hybrid::consult::{Chat, Consult, Continuation, Request};
use hybrid::tokens::Message;
use hybrid_common::arguments::text;
use hybrid_common::cloud::{Named, cloud, cloud_arguments};

/// What all boards say first: a server with a prefix cache reads it once.
const SYSTEM: &str = "You are the voice of a small weather station. You answer in short sentences, \
    you never guess a figure, and you name the sensor that a figure comes from. Sensors: outside \
    temperature, humidity, pressure, rain of the last hour, wind speed and direction.";
/// Bytes of an answer after which a board begins another one.
const ANSWER_BYTES: usize = 400;
/// Boards are threads; TLS and HTTP need a part of this.
const STACK: usize = 256 << 10;

fn main() -> Result<()> {
    let number = |name, default, help| {
        text(name, "N", help).default_value(default).value_parser(value_parser!(u32).range(1..))
    };
    let arguments = Command::new("load")
        .arg(number("boards", "200", "Boards that ask"))
        .arg(number("seconds", "60", "How long they do"))
        .arg(number("every-ms", "2000", "From one consult of a board to its next"))
        .arg(number("burst", "4", "Tokens of an answer"))
        .arg(number("deadline-ms", "2000", "Time limit of a consult"))
        .args(cloud_arguments(Named::IfTheServerWantsIt))
        .get_matches();
    let options = cloud(&arguments)?.context("which server? give --cloud-url")?;
    let plan = Plan::parse(&arguments, options)?;
    let fleet = plan.run()?;
    print!("{}", fleet.report(&plan));
    ensure!(!fleet.took.is_empty(), "no consult was answered");
    Ok(())
}

struct Plan {
    boards: u32,
    time: Duration,
    every: Duration,
    burst: u32,
    deadline: Duration,
    options: CloudOptions,
}

/// What one board saw, or all of them.
#[derive(Default)]
struct Seen {
    /// Of consults that were answered.
    took: Vec<Duration>,
    /// Failures by their text.
    failures: Vec<(String, u64)>,
    /// Times that a breaker opened, and consults that were not made because it was open.
    openings: u64,
    spared: u64,
    requests: u64,
    bytes: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
}

impl Plan {
    fn parse(arguments: &ArgMatches, options: CloudOptions) -> Result<Plan> {
        let number = |name: &str| *arguments.get_one::<u32>(name).expect("has a default");
        let milliseconds = |name| Duration::from_millis(number(name).into());
        Ok(Plan {
            boards: number("boards"),
            time: Duration::from_secs(number("seconds").into()),
            every: milliseconds("every-ms"),
            burst: number("burst"),
            deadline: milliseconds("deadline-ms"),
            options,
        })
    }

    fn run(&self) -> Result<Seen> {
        let begin = Instant::now();
        let board = |number| move || self.board(number, begin);
        thread::scope(|scope| {
            let start = |number| {
                let name = thread::Builder::new().stack_size(STACK);
                name.spawn_scoped(scope, board(number)).context("cannot start a board")
            };
            let boards = (0..self.boards).map(start).collect::<Result<Vec<_>>>()?;
            let mut all = Seen::default();
            for board in boards {
                all.add(board.join().expect("a board does not panic")?);
            }
            Ok(all)
        })
    }

    /// One board from its start to the end.
    fn board(&self, number: u32, begin: Instant) -> Result<Seen> {
        let (cloud, cancel, mut seen) =
            (Cloud::new(self.options.clone())?, Cancel::new(), Seen::default());
        let breaker = cloud.breaker().context("a client has one")?;
        let question = format!("Station {number}: what was the weather like today?");
        let messages = [("system", SYSTEM), ("user", &question)]
            .map(|(role, text)| Message { role: role.into(), content: text.into() });
        let mut answer = String::new();
        // Spread over the first round, so that they do not ask all at once.
        let mut next = begin + self.every.mul_f64(f64::from(number) / f64::from(self.boards));
        while next < begin + self.time {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now().max(next) + self.every;
            let Some(permit) = breaker.admit() else {
                seen.spared += 1;
                continue;
            };
            let context = format!("{SYSTEM}\n\n{question}\n\n{answer}");
            let (result, cost) = cloud.consult(&Request {
                ids: &[],
                vocabulary: "",
                bytes: context.as_bytes(),
                chat: Some(Chat { messages: &messages, answer: &answer }),
                max_tokens: self.burst,
                deadline: Instant::now() + self.deadline,
                cancel: &cancel,
            });
            let was_open = cloud.breaker_report().state == BreakerState::Open;
            permit.record(result.as_ref().map(drop).map_err(|failure| *failure), cost.quiet);
            let is_open = cloud.breaker_report().state == BreakerState::Open;
            seen.openings += u64::from(is_open && !was_open);
            seen.requests += u64::from(cost.requests);
            seen.bytes += cost.bytes_sent + cost.bytes_received;
            seen.prompt_tokens += cost.prompt_tokens;
            seen.cached_tokens += cost.cached_tokens;
            match result {
                Err(failure) => seen.fail(failure.to_string(), 1),
                Ok(found) => {
                    seen.took.push(cost.elapsed);
                    if let Continuation::Bytes(bytes) = &found.continuation {
                        answer += &String::from_utf8_lossy(bytes);
                    }
                    if found.end || answer.len() > ANSWER_BYTES {
                        answer.clear();
                    }
                }
            }
        }
        Ok(seen)
    }
}

impl Seen {
    fn fail(&mut self, failure: String, times: u64) {
        match self.failures.iter_mut().find(|(known, _)| *known == failure) {
            Some((_, count)) => *count += times,
            None => self.failures.push((failure, times)),
        }
    }

    fn add(&mut self, other: Seen) {
        self.took.extend(other.took);
        other.failures.into_iter().for_each(|(failure, times)| self.fail(failure, times));
        self.openings += other.openings;
        self.spared += other.spared;
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
    }

    fn report(&self, plan: &Plan) -> String {
        let mut took = self.took.clone();
        took.sort();
        let at = |share: f64| {
            let index = (took.len() as f64 * share) as usize;
            took.get(index.min(took.len().saturating_sub(1)))
                .map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        let failed: u64 = self.failures.iter().map(|(_, count)| count).sum();
        let consults = took.len() as u64 + failed;
        let mean = |sum: u64| sum.checked_div(consults).unwrap_or(0);
        let seconds = plan.time.as_secs_f64();
        let mut text = format!(
            "boards     {}, each every {:.1?}\n\
             consults   {consults}, {:.1} a second; {} answered, {failed} failed\n\
             requests   {}, {:.1} a second\n\
             answered   in {:.1} ms (median), {:.1} ms (99 of 100), {:.1} ms at most\n",
            plan.boards,
            plan.every,
            consults as f64 / seconds,
            took.len(),
            self.requests,
            self.requests as f64 / seconds,
            at(0.5),
            at(0.99),
            at(1.0),
        );
        for (failure, count) in &self.failures {
            text += &format!("failed     {count}: {failure}\n");
        }
        text += &format!(
            "breakers   opened {} times and spared {} consults\n\
             a consult  {} bytes, {} prompt tokens, {} of them cached\n",
            self.openings,
            self.spared,
            mean(self.bytes),
            mean(self.prompt_tokens),
            mean(self.cached_tokens),
        );
        text
    }
}
