//! Session
//!
//! A hybrid_session is one conversation with one model: a context of tokens, and the options by
//! which it grows. Give it text with hybrid_session_prompt or hybrid_session_chat, then generate
//! with hybrid_step_run or hybrid_step.

use std::ffi::c_char;
use std::sync::{Arc, Mutex};

use super::boundary::{Result, enter, enter_void};
use super::objects::{
    self, Conversation, hybrid_cancel, hybrid_cloud, hybrid_model, hybrid_session,
};
use super::options::hybrid_session_options;
use super::pointers;
use super::sized;
use super::status::hybrid_status;
use super::step::Shown;
use crate::cancel::Cancel;
use crate::consult::Consult;
use crate::session::Session;
use crate::tokens::Message;

/// One message of a chat. Its fields are final.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_message {
    /// "system", "user" or "assistant".
    pub role: *const c_char,
    pub content: *const c_char,
}

/// Makes a session with an empty context. `cloud` may be NULL: then no byte leaves the device.
/// `options` may be NULL for the defaults. `out`: owned, free it with hybrid_session_free.
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
        let cloud = unsafe { pointers::optional_reference(cloud, "cloud") }?;
        // SAFETY: header rule *Structs that grow*.
        let options = unsafe { sized::read(options, "options") }?;
        // SAFETY: header rule *Strings*, for the stop strings.
        let options = unsafe { options.parse() }?;
        let cloud = cloud.map(|cloud| cloud.cloud.clone() as Arc<dyn Consult>);
        let mut session = Session::new(model.model.clone(), cloud, options.birth.clone())?;
        options.set(&mut session)?;
        let cell = Arc::new(Mutex::new(Conversation { session, shown: Shown::default() }));
        *out = objects::give(hybrid_session { cell });
        Ok(())
    })
}

/// Frees the session. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_free(session: *mut hybrid_session) {
    // SAFETY: header rule *Ownership*.
    enter_void(|| unsafe { objects::free(session) });
}

/// Lets `cancel` stop the calls of this session; NULL takes the flag away. The session keeps its own
/// share of the flag.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_cancel(
    session: *mut hybrid_session,
    cancel: *const hybrid_cancel,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let cancel = unsafe { pointers::optional_reference(cancel, "cancel") }?;
        let flag = cancel.map_or_else(Cancel::new, |cancel| cancel.flag.clone());
        // SAFETY: header rule *Pointers*.
        unsafe {
            with(session, |c| {
                c.session.set_cancel(flag);
                Ok(())
            })
        }
    })
}

/// Appends `size` bytes of UTF-8 text to the context and lets the SLM read them, in chunks that a
/// hybrid_cancel can stop. All or nothing: after an error the context is as before. An empty text is
/// HYBRID_ERR_INVALID_ARGUMENT.
///
/// The text is taken as it is, without a chat template, and names of control tokens in it, such as
/// `<|im_end|>`, become control tokens: take them out of what strangers wrote.
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
        unsafe { with(session, |c| c.session.prompt(text)) }
    })
}

/// Appends `count` messages, rendered by the model's chat template up to where the assistant's
/// answer begins. A later call continues the conversation: what was generated since the last call is
/// the assistant's message before the new ones. Otherwise as hybrid_session_prompt.
/// HYBRID_ERR_UNSUPPORTED: the model has no chat template. HYBRID_ERR_TEMPLATE: it refuses these
/// messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_chat(
    session: *mut hybrid_session,
    messages: *const hybrid_message,
    count: usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*: `count` messages are readable.
        let messages = unsafe { pointers::slice(messages, count, "messages") }?;
        // SAFETY: header rule *Strings*.
        let read = |message| unsafe { read_message(message) };
        let messages = messages.iter().map(read).collect::<Result<Vec<_>>>()?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.chat(&messages)) }
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

/// # Safety
/// Header rule *Strings*: both are NULL or NUL-terminated.
unsafe fn read_message(message: &hybrid_message) -> Result<Message> {
    // SAFETY: the caller's rule *Strings*.
    let role = unsafe { pointers::string(message.role, "role of a message") }?;
    // SAFETY: the caller's rule *Strings*.
    let content = unsafe { pointers::string(message.content, "content of a message") }?;
    Ok(Message { role: role.to_owned(), content: content.to_owned() })
}
