//! Tokens
//!
//! Text to token ids and back, by the vocabulary of a model.

use std::ffi::c_char;

use super::boundary::enter;
use super::objects::hybrid_model;
use super::pointers;
use super::status::hybrid_status;

/// Turns `size` bytes of UTF-8 text into token ids.
///
/// `special` is 1 to treat the text as the first prompt of a context: names of control tokens, such
/// as `<|im_end|>`, become these tokens, and the token comes in front that the model wants there.
/// 0: every character is plain text.
///
/// `needed`, if not NULL, gets the number of ids. `capacity` counts ids; `buffer` may be NULL if it
/// is 0. HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written. HYBRID_ERR_INVALID_ARGUMENT: the
/// text is over 1 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_tokenize(
    model: *const hybrid_model,
    text: *const c_char,
    size: usize,
    special: i32,
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
        let special = pointers::flag(special, "special")?;
        out.set(&model.model.tokenize(text, special)?)
    })
}

/// Counts the ids that hybrid_model_tokenize would write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_count_tokens(
    model: *const hybrid_model,
    text: *const c_char,
    size: usize,
    special: i32,
    count: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let count = unsafe { pointers::out(count, "count", 0) }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        // SAFETY: header rule *Pointers*: `size` bytes are readable.
        let text = unsafe { pointers::utf8(text, size, "text") }?;
        let special = pointers::flag(special, "special")?;
        *count = model.model.count_tokens(text, special)?;
        Ok(())
    })
}

/// Turns `count` token ids into bytes: exactly those of the tokens, with no NUL behind. They are
/// UTF-8 text unless the tokens begin or end within a character.
///
/// `special` is 1 to write the names of control tokens, and 0 to leave these tokens out. `needed`,
/// if not NULL, gets the number of bytes. `buffer` may be NULL if `capacity` is 0.
/// HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written. HYBRID_ERR_INVALID_ARGUMENT: an id is
/// not in the vocabulary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_detokenize(
    model: *const hybrid_model,
    tokens: *const u32,
    count: usize,
    special: i32,
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
        let special = pointers::flag(special, "special")?;
        out.set(&model.model.detokenize(tokens, special)?)
    })
}
