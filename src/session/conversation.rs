//! The conversation: what was prompted and handed out, and what is still to be handed out.

use std::collections::VecDeque;

use super::context::Context;
use super::text::TextOut;
use super::token::{End, Source};
use super::turns::Turns;

/// What grows with every token. Tokens of a burst that were not handed out yet are not part of the
/// context.
#[derive(Clone)]
pub(super) struct Conversation {
    pub context: Context,
    pub turns: Turns,
    /// Tokens of the last answer that were not handed out yet, and where it came from.
    pub burst: VecDeque<u32>,
    pub burst_source: Source,
    pub text: TextOut,
    pub end: End,
}

impl Conversation {
    pub fn new(stop_strings: &[String]) -> Conversation {
        Conversation {
            context: Context::default(),
            turns: Turns::default(),
            burst: VecDeque::new(),
            burst_source: Source::Cloud,
            text: TextOut::new(stop_strings),
            end: End::None,
        }
    }
}
