//! Tokens
//!
//! Text to token ids and back, by the vocabulary of a model.

use std::ffi::c_char;

use super::boundary::enter;
use super::fault::{Result, bad};
use super::objects::hybrid_model;
use super::pointers;
use super::stack;
use super::status::hybrid_status;
use crate::session::Tokenize;

/// For hybrid_model_tokenize: put the token in front that the model wants at the beginning of a
/// context, if it wants one.
pub const HYBRID_TOKENS_ADD_BOS: u32 = 1;
/// For hybrid_model_tokenize: names of control tokens in the text, such as `<|im_end|>`, become
/// these tokens. For hybrid_model_detokenize: control tokens become their names.
pub const HYBRID_TOKENS_CONTROL: u32 = 2;

/// Turns `size` bytes of UTF-8 text into token ids.
///
/// `flags` are HYBRID_TOKENS_ bits, joined by `|`. 0: every character is plain text, and nothing is
/// added. Both: what hybrid_session_prompt does with the first prompt of a context. To prompt with
/// text that you do not trust, leave HYBRID_TOKENS_CONTROL out and pass the ids to
/// hybrid_session_prompt_tokens.
///
/// `needed`, if not NULL, gets the number of ids. `capacity` counts ids; `buffer` may be NULL if it
/// is 0. HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written. HYBRID_ERR_INVALID_ARGUMENT: the
/// text is over 1 MiB, or `flags` has another bit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_tokenize(
    model: *const hybrid_model,
    text: *const c_char,
    size: usize,
    flags: u32,
    buffer: *mut u32,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::copied(buffer, capacity, needed, "ids") }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        // SAFETY: header rule *Pointers*: `size` bytes are readable.
        let text = unsafe { pointers::utf8(text, size, "text") }?;
        stack::check()?;
        out.set(&model.model.tokenize(text, tokenize(flags)?)?)
    })
}

/// Counts the ids that hybrid_model_tokenize would write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_count_tokens(
    model: *const hybrid_model,
    text: *const c_char,
    size: usize,
    flags: u32,
    count: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let count = unsafe { pointers::out(count, "count", 0) }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        // SAFETY: header rule *Pointers*: `size` bytes are readable.
        let text = unsafe { pointers::utf8(text, size, "text") }?;
        stack::check()?;
        *count = model.model.count_tokens(text, tokenize(flags)?)?;
        Ok(())
    })
}

/// Turns `count` token ids into bytes: exactly those of the tokens, with no NUL behind. They are
/// UTF-8 text unless the tokens begin or end within a character.
///
/// `flags` is HYBRID_TOKENS_CONTROL to write the names of control tokens, and 0 to leave these
/// tokens out. `needed`, if not NULL, gets the number of bytes. `buffer` may be NULL if `capacity`
/// is 0. HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written. HYBRID_ERR_INVALID_ARGUMENT: an
/// id is not in the vocabulary, or `flags` has another bit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_detokenize(
    model: *const hybrid_model,
    tokens: *const u32,
    count: usize,
    flags: u32,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::copied(buffer, capacity, needed, "bytes") }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        // SAFETY: header rule *Pointers*: `count` elements are readable.
        let tokens = unsafe { pointers::slice(tokens, count, "tokens") }?;
        check(flags, HYBRID_TOKENS_CONTROL)?;
        out.set(&model.model.detokenize(tokens, flags & HYBRID_TOKENS_CONTROL != 0)?)
    })
}

fn tokenize(flags: u32) -> Result<Tokenize> {
    check(flags, HYBRID_TOKENS_ADD_BOS | HYBRID_TOKENS_CONTROL)?;
    Ok(Tokenize {
        add_bos: flags & HYBRID_TOKENS_ADD_BOS != 0,
        control: flags & HYBRID_TOKENS_CONTROL != 0,
    })
}

/// Refuses bits that mean nothing here, so that they may mean something later.
fn check(flags: u32, known: u32) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        other => Err(bad(format!("flags has the unknown bits {other:#x}; leave them 0"))),
    }
}
