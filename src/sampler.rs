//! From logits to a candidate token.

/// What the logits say about a candidate, at temperature 1 and before any filter.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LogitStats {
    /// ln p of the candidate.
    pub log_p: f32,
    /// The largest log-probabilities, descending, padded with -30.
    pub top: [f32; 8],
    /// Entropy of the whole distribution in nats.
    pub entropy: f32,
}

/// How a candidate is drawn. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerOptions {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k most likely; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set with this much probability; 1 keeps all.
    pub top_p: f32,
    /// Keep what has at least this share of the most likely one's probability; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 is off.
    pub repetition_penalty: f32,
    /// How many recent tokens count for the penalty.
    pub repetition_window: u32,
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}
