//! Positions of many answers as one table.

use hybrid::reward::statistics;

use crate::collect::Record;

/// Rows of features with labels. Columns: statistics, hidden state before, hidden state after.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    pub hidden_size: usize,
    pub columns: Vec<f32>,
    /// 1 where the SLM and the cloud LLM agree, else 0.
    pub agrees: Vec<f64>,
    /// Which prompt a row is of, ascending.
    pub prompts: Vec<u32>,
    /// The name of the last one.
    prompt: Option<String>,
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
        for (i, agrees) in record.agrees(is_stop).into_iter().enumerate() {
            let stats = i * statistics::COUNT..(i + 1) * statistics::COUNT;
            self.columns.extend_from_slice(&features.stats[stats]);
            self.columns.extend_from_slice(&features.hidden[i * d..(i + 1) * d]);
            self.columns.extend_from_slice(&features.after[i * d..(i + 1) * d]);
            self.agrees.push(if agrees { 1.0 } else { 0.0 });
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

    /// This share of the prompts, spread evenly over the table.
    pub fn part(&self, share: f64) -> Dataset {
        // Numbers with their bits in reverse order lie evenly, however many there are.
        let place = |prompt: u32| f64::from(prompt.reverse_bits()) / 2f64.powi(32);
        let mut part = Dataset::new(self.hidden_size);
        let rows: Vec<usize> =
            (0..self.rows()).filter(|&row| place(self.prompts[row]) < share).collect();
        let prompts = rows.chunk_by(|&a, &b| self.prompts[a] == self.prompts[b]);
        for (prompt, rows) in (0..).zip(prompts) {
            for &row in rows {
                part.columns.extend_from_slice(self.row(row));
                part.agrees.push(self.agrees[row]);
                part.prompts.push(prompt);
            }
        }
        part
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
    use crate::train::testing;

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
    }
}
