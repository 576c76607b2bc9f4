//! Everything that was measured: gathered, summed up, and written down.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::arguments::{Gate, Options};
use super::report::{self, Record, Sum, Way};
use crate::train::report::Figures;
use hybrid_common::answers::case::Case;
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::prompts::Prompt;

/// Every gate's scores along the cloud LLM's answers.
#[derive(Default)]
pub struct Scores {
    /// Labels, without features.
    data: Dataset,
    by_gate: BTreeMap<&'static str, Vec<f64>>,
}

impl Scores {
    /// Appends one more prompt.
    pub fn add(&mut self, gates: &[Gate], case: &Case) -> Result<()> {
        let prompt = self.data.prompts.last().map_or(0, |last| last + 1);
        for (at, gate) in gates.iter().enumerate() {
            let positions = case.positions(gate.kind)?;
            let scores = self.by_gate.entry(gate.name).or_default();
            scores.extend(positions.iter().map(|position| f64::from(position.score)));
            if at == 0 {
                let agrees = positions.iter().map(|position| f64::from(u8::from(position.agrees)));
                self.data.agrees.extend(agrees);
                self.data.prompts.resize(self.data.agrees.len(), prompt);
            }
        }
        Ok(())
    }

    /// `None` before the first prompt.
    pub fn of(&self, gate: &str) -> Option<&[f64]> {
        self.by_gate.get(gate).map(Vec::as_slice)
    }

    /// 1 where the SLM's token is the cloud LLM's, 0 elsewhere.
    pub fn agrees(&self) -> &[f64] {
        &self.data.agrees
    }

    fn figures(&self) -> Vec<Figures> {
        let of = |(gate, scores): (&&'static str, &Vec<f64>)| {
            Figures::of(gate, scores, &self.data, *gate == "head")
        };
        self.by_gate.iter().map(of).collect()
    }
}

#[derive(Default)]
pub struct Results {
    pub scores: Scores,
    pub records: Vec<Record>,
    /// The cloud LLM's, one a prompt.
    pub answers: Vec<String>,
    ways: Vec<Way>,
    sums: Vec<Sum>,
}

impl Results {
    pub fn sum_up(&mut self, options: &Options, ways: Vec<Way>) {
        let sum = |way: &Way| {
            let of_way: Vec<&Record> = self.records.iter().filter(|r| r.way == *way).collect();
            Sum::of(&of_way, options.prices)
        };
        self.sums = ways.iter().filter_map(sum).collect();
        self.ways = ways;
    }

    pub fn tables(&self) -> String {
        let data = &self.scores.data;
        let sessions = if self.sums.is_empty() { String::new() } else { report::table(&self.sums) };
        format!(
            "{} prompts, {} tokens, the SLM disagrees on {:.1} %\n{}{sessions}",
            data.prompt_count(),
            data.rows(),
            100.0 * data.disagreements() as f64 / data.rows().max(1) as f64,
            crate::train::report::table(&self.scores.figures())
        )
    }

    /// Every figure and every text: a line of JSON each, told apart by `kind`.
    pub fn lines(&self, setup: Value, prompts: &[Prompt]) -> Result<String> {
        let data = &self.scores.data;
        let mut lines = vec![setup];
        for (prompt, answer) in prompts.iter().zip(&self.answers) {
            let prompt = json!({ "id": prompt.id, "text": prompt.text, "answer": answer });
            lines.push(line("prompt", &prompt)?);
        }
        let labels = json!({ "agrees": data.agrees, "prompts": data.prompts });
        lines.push(line("labels", &labels)?);
        for (gate, scores) in &self.scores.by_gate {
            lines.push(line("scores", &json!({ "gate": gate, "scores": scores }))?);
        }
        for figures in self.scores.figures() {
            lines.push(line("along-answers", &figures)?);
        }
        for way in &self.ways {
            lines.push(line("way", way)?);
        }
        for sum in &self.sums {
            lines.push(line("sum", sum)?);
        }
        for record in &self.records {
            lines.push(line("session", record)?);
        }
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }
}

fn line(kind: &str, value: &impl Serialize) -> Result<Value> {
    let mut line = json!({ "kind": kind });
    if let (Some(line), Value::Object(value)) = (line.as_object_mut(), serde_json::to_value(value)?)
    {
        line.extend(value);
    }
    Ok(line)
}
