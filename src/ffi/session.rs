//! Session
//!
//! A hybrid_session is one conversation with one model: a context of tokens, and the settings by
//! which it grows. Give it text with hybrid_session_prompt or hybrid_session_chat, then generate
//! with hybrid_step_run or hybrid_step.
//!
//! hybrid_session_options holds what stays for the session's life. Everything else has good
//! defaults and can be changed between any two calls: hybrid_sampling, hybrid_gate, hybrid_consult,
//! hybrid_budget and hybrid_corrections. A change acts from the next candidate on. Tokens of an
//! answer that the cloud has already given still come, as HYBRID_SOURCE_CLOUD. A setter that fails
//! leaves everything as it was.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::{enter, enter_void};
use super::fault::{Result, bad};
use super::numbers::{Number, values};
use super::objects::{self, Conversation, hybrid_cloud, hybrid_model, hybrid_session};
use super::pointers;
use super::sized::{self, SizedStruct, end_of};
use super::stack;
use super::status::hybrid_status;
use crate::consult::Consult;
use crate::session::{Session, SessionOptions};
use crate::tokens::Message;

/// What a session keeps for its whole life. hybrid_session_new copies everything.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_session_options {
    /// sizeof(hybrid_session_options).
    pub struct_size: usize,
    /// Generation stops before one of these strings would be complete; the string is not handed
    /// out. At most 64 strings of 1 to 1024 bytes. Default: NULL.
    pub stop_strings: *const *const c_char,
    /// Elements of `stop_strings`. Default: 0.
    pub stop_string_count: usize,
    /// Tokens of context. 0: the model's limit. Default: 0.
    pub context: usize,
    /// Equal seeds draw equal tokens. Default: 0.
    pub seed: u64,
    /// Tokens to draft ahead at most, 0 (off) to 7. Where the last tokens occurred in the context
    /// before, the SLM computes what followed them in one batch with the next token. Tokens, scores
    /// and decisions stay the same to the last bit; text that repeats the context comes faster.
    /// HYBRID_ERR_UNSUPPORTED with a plain ONNX export. Default: 0.
    pub draft: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_session_options {
    const NAME: &'static str = "hybrid_session_options";
    const FIRST: usize = end_of!(Self, reserved);
    fn neutral() -> Self {
        let defaults = SessionOptions::default();
        hybrid_session_options {
            struct_size: size_of::<Self>(),
            stop_strings: std::ptr::null(),
            stop_string_count: 0,
            context: defaults.context,
            seed: defaults.seed,
            draft: defaults.draft,
            reserved: 0,
        }
    }
}

/// One message of a chat, for example `{sizeof(hybrid_message), "user", "Hello."}`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_message {
    /// sizeof(hybrid_message), in every message of an array.
    pub struct_size: usize,
    /// "system", "user", "assistant", or any other role that the model's chat template knows, such
    /// as "tool".
    pub role: *const c_char,
    /// What the message says.
    pub content: *const c_char,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_message {
    const NAME: &'static str = "hybrid_message";
    const FIRST: usize = end_of!(Self, content);
    fn neutral() -> Self {
        let none = std::ptr::null();
        hybrid_message { struct_size: size_of::<Self>(), role: none, content: none }
    }
}

/// Whether the model thinks before it answers: the variable `enable_thinking` of its chat template.
/// Templates without that variable ignore it.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_thinking {
    /// As the template has it: the variable is not defined.
    Default = 0,
    /// True.
    On = 1,
    /// False.
    Off = 2,
}
values!(hybrid_thinking { Default, On, Off });

/// Sets the defaults. `struct_size` is sizeof(hybrid_session_options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_options_init(
    options: *mut hybrid_session_options,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(options, struct_size, "options") })
}

/// Makes a session with an empty context. `cloud` may be NULL: then no byte leaves the device.
/// `options` may be NULL for the defaults. `out`: owned; free it with hybrid_session_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_new(
    model: *const hybrid_model,
    cloud: *const hybrid_cloud,
    options: *const hybrid_session_options,
    out: *mut *mut hybrid_session,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", std::ptr::null_mut()) }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        // SAFETY: header rule *Pointers*.
        let cloud = unsafe { client(cloud) }?;
        // SAFETY: header rule *Structs that grow*.
        let options = unsafe { sized::read(options, "options") }?;
        // SAFETY: header rule *Strings*, for the stop strings.
        let options = unsafe { options.parse() }?;
        stack::check()?;
        let session = Session::new(model.model.clone(), cloud, options)?;
        *out = objects::give(hybrid_session::new(session));
        Ok(())
    })
}

/// Makes a second session that continues from where this one is: with the same model, cloud,
/// settings, context, corrections and position of the random generator. From then on the two share
/// nothing that changes, but the cloud with its breaker. The new one has no hybrid_cancel.
///
/// hybrid_stats and hybrid_usage of the new session begin with this one's values. So what this one
/// has spent of a budget is spent for the new one too; from then on each counts its own. `out`:
/// owned; free it with hybrid_session_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_fork(
    session: *mut hybrid_session,
    out: *mut *mut hybrid_session,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", std::ptr::null_mut()) }?;
        // SAFETY: header rule *Pointers*.
        let fork = unsafe { compute(session, |c| c.session.fork()) }?;
        *out = objects::give(hybrid_session::new(fork));
        Ok(())
    })
}

/// Frees the session. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_free(session: *mut hybrid_session) {
    // SAFETY: header rule *Ownership*.
    enter_void(|| unsafe { objects::free(session) });
}

/// Gives the session another cloud. NULL takes the cloud away: from then on no byte leaves the
/// device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_cloud(
    session: *mut hybrid_session,
    cloud: *const hybrid_cloud,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let cloud = unsafe { client(cloud) }?;
        let set = |c: &mut Conversation| {
            c.session.set_cloud(cloud);
            Ok(())
        };
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, set) }
    })
}

/// Sets whether the model thinks in the chats that follow. A session starts with
/// HYBRID_THINKING_DEFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_thinking(
    session: *mut hybrid_session,
    thinking: Number<hybrid_thinking>,
) -> hybrid_status {
    enter(|| {
        let thinking = match thinking.get("thinking")? {
            hybrid_thinking::Default => None,
            hybrid_thinking::On => Some(true),
            hybrid_thinking::Off => Some(false),
        };
        let set = |c: &mut Conversation| {
            c.session.set_thinking(thinking);
            Ok(())
        };
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, set) }
    })
}

/// Appends `size` bytes of UTF-8 text to the context and lets the SLM read them, in chunks that a
/// hybrid_cancel can stop. All or nothing: after an error the context is as before. An empty text
/// is HYBRID_ERR_INVALID_ARGUMENT, and so is one over 1 MiB.
///
/// The text is taken as it is, without a chat template. Names of control tokens in it, such as
/// `<|im_end|>`, become control tokens: remove them from text that you do not trust. The first
/// prompt of a context gets the token in front that the model wants there, if it wants one.
/// HYBRID_ERR_STATE: the context is empty, and the session's cloud takes messages only: begin with
/// hybrid_session_chat.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_prompt(
    session: *mut hybrid_session,
    text: *const c_char,
    size: usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*: `size` bytes are readable.
        let text = unsafe { pointers::utf8(text, size, "text") }?;
        // SAFETY: header rule *Pointers*.
        unsafe { compute(session, |c| c.session.prompt(text)) }
    })
}

/// As hybrid_session_prompt, with `count` token ids: nothing is added in front.
/// HYBRID_ERR_INVALID_ARGUMENT: there are none, or an id is not in the vocabulary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_prompt_tokens(
    session: *mut hybrid_session,
    tokens: *const u32,
    count: usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*: `count` elements are readable.
        let tokens = unsafe { pointers::slice(tokens, count, "tokens") }?;
        // SAFETY: header rule *Pointers*.
        unsafe { compute(session, |c| c.session.prompt_tokens(tokens)) }
    })
}

/// Appends `count` messages, rendered by the model's chat template up to where the assistant's
/// answer begins. A later call continues the conversation: what was generated since the last call
/// is the assistant's message before the new ones. Otherwise as hybrid_session_prompt.
///
/// HYBRID_ERR_UNSUPPORTED: the model has no chat template. HYBRID_ERR_TEMPLATE: the template
/// refuses these messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_chat(
    session: *mut hybrid_session,
    messages: *const hybrid_message,
    count: usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*, for each of `count` messages.
        let messages = unsafe { sized::read_array(messages, count, "messages") }?;
        // SAFETY: header rule *Strings*.
        let read = |message| unsafe { read_message(message) };
        let messages = messages.iter().map(read).collect::<Result<Vec<_>>>()?;
        // SAFETY: header rule *Pointers*.
        unsafe { compute(session, |c| c.session.chat(&messages)) }
    })
}

/// Runs one call on a session, alone. What an earlier call lent ends here.
///
/// # Safety
/// Header rule *Pointers*: `session` is NULL or a live session.
pub(super) unsafe fn with<R>(
    session: *mut hybrid_session,
    call: impl FnOnce(&mut Conversation) -> crate::Result<R>,
) -> Result<R> {
    // SAFETY: the caller's rule *Pointers*.
    let cell = unsafe { pointers::reference(session, "session") }?.cell.clone();
    let mut conversation = objects::enter_alone(&cell)?;
    Ok(call(&mut conversation)?)
}

/// As [`with`], for a call that computes and so needs some stack.
///
/// # Safety
/// As [`with`].
pub(super) unsafe fn compute<R>(
    session: *mut hybrid_session,
    call: impl FnOnce(&mut Conversation) -> crate::Result<R>,
) -> Result<R> {
    stack::check()?;
    // SAFETY: the caller's rule *Pointers*.
    unsafe { with(session, call) }
}

/// # Safety
/// Header rule *Pointers*: `cloud` is NULL or live.
unsafe fn client(cloud: *const hybrid_cloud) -> Result<Option<Arc<dyn Consult>>> {
    // SAFETY: the caller's rule *Pointers*.
    let cloud = unsafe { pointers::optional_reference(cloud, "cloud") }?;
    Ok(cloud.map(|cloud| cloud.cloud.clone() as Arc<dyn Consult>))
}

/// # Safety
/// Header rule *Strings*: both are NULL or NUL-terminated.
unsafe fn read_message(message: &hybrid_message) -> Result<Message> {
    // SAFETY: the caller's rule *Strings*.
    let role = unsafe { pointers::string(message.role, "role of a message") }?;
    // SAFETY: the caller's rule *Strings*.
    let content = unsafe { pointers::string(message.content, "content of a message") }?;
    Ok(Message { role: role.to_owned(), content: content.to_owned() })
}

impl hybrid_session_options {
    /// The checked form of the core, which checks the ranges.
    ///
    /// # Safety
    /// Header rules *Pointers* and *Strings*, for `stop_strings`.
    unsafe fn parse(&self) -> Result<SessionOptions> {
        if self.reserved != 0 {
            let text = "options.reserved must be 0; call hybrid_session_options_init first";
            return Err(bad(text.into()));
        }
        let (strings, count) = (self.stop_strings, self.stop_string_count);
        // SAFETY: header rule *Pointers*.
        let strings = unsafe { pointers::slice(strings, count, "options.stop_strings") }?;
        let stop_strings = strings
            .iter()
            // SAFETY: header rule *Strings*.
            .map(|&string| unsafe { pointers::string(string, "a stop string") })
            .map(|string| string.map(str::to_owned))
            .collect::<Result<_>>()?;
        let (context, seed, draft) = (self.context, self.seed, self.draft);
        Ok(SessionOptions { context, stop_strings, seed, draft })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut hybrid_session_options)) -> Result<SessionOptions> {
        let mut options = hybrid_session_options::neutral();
        change(&mut options);
        // SAFETY: the tests' strings are static.
        unsafe { options.parse() }
    }

    #[test]
    fn every_field_arrives() {
        let stops = [c"END".as_ptr(), c"\n".as_ptr()];
        let got = parse(|o| {
            o.stop_strings = stops.as_ptr();
            o.stop_string_count = 2;
            (o.context, o.seed, o.draft) = (64, 5, 7);
        })
        .unwrap();
        assert_eq!(got.stop_strings, ["END", "\n"]);
        assert_eq!((got.context, got.seed, got.draft), (64, 5, 7));
        let defaults = parse(|_| ()).unwrap();
        assert_eq!(format!("{defaults:?}"), format!("{:?}", SessionOptions::default()));
    }

    #[test]
    fn a_bad_field_is_named() {
        type Change = fn(&mut hybrid_session_options);
        let rows: [(Change, &str); 3] = [
            (|o| o.reserved = 1, "options.reserved"),
            (|o| o.stop_string_count = 1, "options.stop_strings is NULL"),
            (
                |o| {
                    const NONE: &[usize] = &[0];
                    o.stop_strings = NONE.as_ptr().cast();
                    o.stop_string_count = 1;
                },
                "a stop string is NULL",
            ),
        ];
        for (change, want) in rows {
            let text = parse(change).unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
