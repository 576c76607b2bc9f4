//! Positions of many answers as one table.

use std::collections::HashMap;

use hybrid::reward::statistics;

use crate::records::record::Record;

const STATS: usize = statistics::COUNT;

/// Rows of features with labels. Columns: statistics, hidden state before, hidden state after.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    pub hidden_size: usize,
    pub columns: Vec<f32>,
    /// 1 where the SLM and the cloud LLM agree, else 0.
    pub agrees: Vec<f64>,
    /// The cloud LLM's log-probability of the candidate, in nats; NaN where it is not known.
    pub llm_log_p: Vec<f32>,
    /// Which prompt a row is of, ascending.
    pub prompts: Vec<u32>,
    pub pairs: Pairs,
    /// The name of the last one.
    prompt: Option<String>,
}

/// What the SLM knows of the cloud LLM's token where the candidate is another one.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// The candidates' rows, ascending.
    pub rows: Vec<u32>,
    /// All columns of each, with the LLM's token in the candidate's place.
    pub columns: Vec<f32>,
}

impl Dataset {
    pub fn new(hidden_size: usize) -> Dataset {
        Dataset { hidden_size, ..Dataset::default() }
    }

    /// Appends the positions of one more answer; those to one prompt come one after the other.
    pub fn push(&mut self, record: &Record, is_stop: impl Fn(u32) -> bool) {
        let prompt = match self.prompts.last() {
            Some(&last) if self.prompt.as_deref() == Some(&record.about.prompt) => last,
            last => last.map_or(0, |last| last + 1),
        };
        self.prompt = Some(record.about.prompt.clone());
        let (d, features) = (self.hidden_size, &record.features);
        let first = self.rows();
        for (i, agrees) in record.agrees(is_stop).into_iter().enumerate() {
            self.columns.extend_from_slice(&features.stats[i * STATS..][..STATS]);
            self.columns.extend_from_slice(&features.hidden[i * d..][..d]);
            self.columns.extend_from_slice(&features.after[i * d..][..d]);
            self.agrees.push(if agrees { 1.0 } else { 0.0 });
            self.prompts.push(prompt);
        }
        match &record.labels.odds {
            Some(odds) => self.llm_log_p.extend_from_slice(&odds.log_p),
            None => self.llm_log_p.resize(self.rows(), f32::NAN),
        }
        let Some(chosen) = &record.chosen else { return };
        for (i, &at) in chosen.at.iter().enumerate() {
            let at = at as usize;
            // Two ways to stop are one choice, and bytes may agree where tokens do not.
            if self.agrees[first + at] == 0.0 {
                self.pairs.rows.push((first + at) as u32);
                self.pairs.columns.extend_from_slice(&chosen.stats[i * STATS..][..STATS]);
                self.pairs.columns.extend_from_slice(&features.hidden[at * d..][..d]);
                self.pairs.columns.extend_from_slice(&chosen.after[i * d..][..d]);
            }
        }
    }

    pub fn rows(&self) -> usize {
        self.agrees.len()
    }

    /// Columns that a head reads, without or with the state after the candidate.
    pub fn width(&self, after: bool) -> usize {
        statistics::COUNT + self.hidden_size * if after { 2 } else { 1 }
    }

    /// All columns of a row.
    pub fn row(&self, row: usize) -> &[f32] {
        let width = self.width(true);
        &self.columns[row * width..(row + 1) * width]
    }

    /// All columns of a pair's other half.
    pub fn chosen(&self, pair: usize) -> &[f32] {
        let width = self.width(true);
        &self.pairs.columns[pair * width..(pair + 1) * width]
    }

    /// One statistic of every row.
    pub fn statistic(&self, name: &str) -> Vec<f64> {
        let index = statistics::NAMES.iter().position(|n| *n == name).expect("a known statistic");
        (0..self.rows()).map(|row| self.row(row)[index].into()).collect()
    }

    /// This share of the prompts, spread evenly over the table.
    pub fn part(&self, share: f64) -> Dataset {
        // Numbers with their bits in reverse order lie evenly, however many there are.
        let place = |prompt: u32| f64::from(prompt.reverse_bits()) / 2f64.powi(32);
        let mut part = Dataset::new(self.hidden_size);
        let rows: Vec<usize> =
            (0..self.rows()).filter(|&row| place(self.prompts[row]) < share).collect();
        let prompts = rows.chunk_by(|&a, &b| self.prompts[a] == self.prompts[b]);
        let mut pair_of_row: HashMap<u32, usize> =
            self.pairs.rows.iter().copied().zip(0..).collect();
        for (prompt, rows) in (0..).zip(prompts) {
            for &row in rows {
                if let Some(pair) = pair_of_row.remove(&(row as u32)) {
                    part.pairs.rows.push(part.rows() as u32);
                    part.pairs.columns.extend_from_slice(self.chosen(pair));
                }
                part.columns.extend_from_slice(self.row(row));
                part.agrees.push(self.agrees[row]);
                part.llm_log_p.push(self.llm_log_p[row]);
                part.prompts.push(prompt);
            }
        }
        part
    }

    /// Its size and how often the models disagree.
    pub fn describe(&self) -> String {
        let share = self.disagreements() as f64 / self.rows().max(1) as f64;
        format!(
            "{} prompts, {} tokens, the SLM disagrees on {:.1} %",
            self.prompt_count(),
            self.rows(),
            share * 100.0
        )
    }

    pub fn disagreements(&self) -> usize {
        self.agrees.iter().filter(|&&a| a == 0.0).count()
    }

    pub fn prompt_count(&self) -> usize {
        self.prompts.last().map_or(0, |last| *last as usize + 1)
    }
}

#[cfg(test)]
mod tests {
    use crate::heads::testing;

    #[test]
    fn parts_are_nested_and_of_the_share_asked_for() {
        let data = testing::dataset(640, 1, 1);
        let (eighth, quarter) = (data.part(0.125), data.part(0.25));
        assert_eq!((eighth.prompt_count(), eighth.rows()), (8, 80));
        assert_eq!((quarter.prompt_count(), quarter.rows()), (16, 160));
        // Of 64 prompts every eighth and every fourth.
        assert_eq!(eighth.row(10), data.row(80));
        assert_eq!(quarter.row(10), data.row(40));
        assert_eq!(data.part(1.0).columns, data.columns);
        for (pair, &row) in quarter.pairs.rows.iter().enumerate() {
            let of_all = data.pairs.rows.iter().position(|&r| r == row / 10 * 40 + row % 10);
            assert_eq!(quarter.chosen(pair), data.chosen(of_all.unwrap()));
        }
        assert_eq!(quarter.pairs.rows.len(), quarter.disagreements());
    }
}
