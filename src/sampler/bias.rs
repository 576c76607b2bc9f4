//! Logit bias: what the caller adds to the logits of some tokens.

use crate::error::{Error, Result};

/// What is added to the logits of some tokens before anything looks at them: candidates, their
/// alternatives and scores all see the sum.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogitBias(Vec<(u32, f32)>);

impl LogitBias {
    /// Token ids, and what is added to the logit of each; minus infinity: never. `usable`: ids from
    /// this one on are no tokens.
    ///
    /// Errors: [`Error::InvalidArgument`] for an id that is no token or occurs twice, plus infinity
    /// and NaN.
    pub fn new(entries: &[(u32, f32)], usable: usize) -> Result<LogitBias> {
        for &(id, bias) in entries {
            if id as usize >= usable {
                return Err(Error::InvalidArgument(format!(
                    "logit bias: token {id} is outside the vocabulary of {usable}"
                )));
            }
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(Error::InvalidArgument(format!(
                    "logit bias: {bias} for token {id}; a bias is a number, or minus \
                     infinity for never"
                )));
            }
        }
        let mut entries = entries.to_vec();
        entries.sort_unstable_by_key(|&(id, _)| id);
        let twice = entries.iter().zip(entries.iter().skip(1)).find(|(a, b)| a.0 == b.0);
        if let Some(((id, _), _)) = twice {
            return Err(Error::InvalidArgument(format!(
                "logit bias: token {id} occurs twice; give one bias for it"
            )));
        }
        Ok(LogitBias(entries))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `logits` with the bias, in place of what `out` holds.
    pub fn apply(&self, logits: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(logits);
        for &(id, bias) in &self.0 {
            if let (Some(out), Some(&logit)) = (out.get_mut(id as usize), logits.get(id as usize)) {
                *out = logit + bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f32 = f32::INFINITY;

    #[test]
    fn a_bias_is_added() {
        /// Entries, logits.
        type Row<'a> = (&'a [(u32, f32)], [f32; 3]);
        let rows: [Row; 3] = [
            (&[], [1.0, 2.0, -INF]),
            (&[(1, -INF), (0, 0.5)], [1.5, -INF, -INF]),
            (&[(2, 100.0), (3, 1.0)], [1.0, 2.0, -INF]),
        ];
        for (entries, want) in rows {
            let bias = LogitBias::new(entries, 4).unwrap();
            let mut out = vec![7.0; 9];
            bias.apply(&[1.0, 2.0, -INF], &mut out);
            assert_eq!(out, want, "{entries:?}");
        }
    }

    #[test]
    fn what_is_no_bias_is_refused() {
        let rows = [
            ((4, 0.0), "token 4"),
            ((1, INF), "inf"),
            ((1, f32::NAN), "NaN"),
            ((0, 1.0), "token 0 occurs twice"),
        ];
        for (entry, part) in rows {
            let error = LogitBias::new(&[(0, 1.0), entry], 4).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
