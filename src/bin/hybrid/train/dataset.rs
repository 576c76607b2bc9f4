//! Positions of many answers as one table.

use hybrid::reward::statistics;

use super::features::Positions;

/// Rows of features with labels. Columns: statistics, hidden state before, hidden state after.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    pub hidden_size: usize,
    pub columns: Vec<f32>,
    /// 1 where the SLM and the cloud LLM agree, else 0.
    pub agrees: Vec<f64>,
    /// Which prompt a row is of.
    pub prompts: Vec<u32>,
}

impl Dataset {
    pub fn new(hidden_size: usize) -> Dataset {
        Dataset { hidden_size, ..Dataset::default() }
    }

    /// Appends the positions of one more prompt.
    pub fn push(&mut self, positions: &Positions) {
        let prompt = self.prompts.last().map_or(0, |last| last + 1);
        let d = self.hidden_size;
        for (i, &agrees) in positions.agrees.iter().enumerate() {
            let stats = i * statistics::COUNT..(i + 1) * statistics::COUNT;
            self.columns.extend_from_slice(&positions.stats[stats]);
            self.columns.extend_from_slice(&positions.hidden[i * d..(i + 1) * d]);
            self.columns.extend_from_slice(&positions.after[i * d..(i + 1) * d]);
            self.agrees.push(agrees.into());
            self.prompts.push(prompt);
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

    /// One statistic of every row.
    pub fn statistic(&self, name: &str) -> Vec<f64> {
        let index = statistics::NAMES.iter().position(|n| *n == name).expect("a known statistic");
        (0..self.rows()).map(|row| self.row(row)[index].into()).collect()
    }

    pub fn disagreements(&self) -> usize {
        self.agrees.iter().filter(|&&a| a == 0.0).count()
    }

    pub fn prompt_count(&self) -> usize {
        self.prompts.last().map_or(0, |last| *last as usize + 1)
    }
}
