//! The table of wire formats: a new one is a file and a row.

use super::format::Wire;
use super::options::ServerKind;
use super::{anthropic, chat, llama_cpp, openai, sglang};

impl Wire {
    pub fn of(kind: ServerKind) -> &'static Wire {
        match kind {
            ServerKind::Auto | ServerKind::OpenAi => &openai::WIRE,
            ServerKind::LlamaCpp => &llama_cpp::WIRE,
            ServerKind::SgLang => &sglang::WIRE,
            ServerKind::ChatContinue => &chat::CONTINUE,
            ServerKind::ChatPrefix => &chat::PREFIX,
            ServerKind::ChatTrailing => &chat::TRAILING,
            ServerKind::Anthropic => &anthropic::WIRE,
        }
    }
}
