//! Consults
//!
//! How the library asks the cloud once the gate says so, and what it tries before.

use std::time::Duration;

use super::boundary::enter;
use super::fault::Result;
use super::objects::hybrid_session;
use super::pointers;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::session::ConsultOptions;

/// How one consult is made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_consult {
    /// sizeof(hybrid_consult).
    pub struct_size: usize,
    /// Tokens taken from one consult at most, 1 to 1024. The first comes with this step, the others
    /// with the steps after it. Default: 1.
    pub burst: u32,
    /// The whole consult must end within this time, connection and TLS included. After it the step
    /// keeps the SLM's token. Milliseconds, 1 to 600000. Default: 2000.
    pub deadline_ms: u32,
    /// 1: the SLM reads along in bursts, and a token that it would have written and kept itself
    /// counts as its own. Greedy text does not change by it. Acts in the mode HYBRID_MODE_HYBRID.
    /// Default: 0.
    pub hand_back: i32,
    /// Before a consult, score this many other tokens, the likeliest ones, 0 (off) to 7. If the
    /// best of them reaches the threshold, take it and do not consult. Each costs the SLM's time
    /// for a token. Acts in the mode HYBRID_MODE_HYBRID, with a reward head. Default: 0.
    pub rescue: u32,
    /// While the cloud is asked, the SLM reads on from its candidate, so many tokens at most, 0
    /// (off) to 64. If the cloud answers with the candidate, or not at all, the next steps need not
    /// compute these tokens. Tokens, scores, decisions and what is sent stay the same to the last
    /// bit. Each consult then runs on a thread of its own, which ends with it. Takes memory for as
    /// many rows of logits (vocabulary * 4 bytes each). HYBRID_ERR_UNSUPPORTED with a plain ONNX
    /// export. Default: 0.
    pub overlap: u32,
    /// 1: while the SLM reads a prompt or a chat, ask the cloud for one token after it and drop
    /// that. The first consult then finds a connection, and on a server with a prefix cache its
    /// prompt. It counts as a consult, and the server bills the prompt once more. Made only where a
    /// consult could follow, and not with a server that takes messages. It runs on a thread of its
    /// own; the call returns when both have ended. Default: 0.
    pub warm: i32,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_consult {
    const NAME: &'static str = "hybrid_consult";
    const FIRST: usize = end_of!(Self, rescue);
    fn neutral() -> Self {
        ConsultOptions::default().into()
    }
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_consult).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_consult_init(
    consult: *mut hybrid_consult,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(consult, struct_size, "consult") })
}

/// Sets how the session consults from the next candidate on. HYBRID_ERR_UNSUPPORTED: `rescue` with
/// a score that is not the reward head's, or `overlap` with a plain ONNX export.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_consult(
    session: *mut hybrid_session,
    consult: *const hybrid_consult,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let consult = unsafe { sized::read_required(consult, "consult") }?.parse()?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.set_consult(consult)) }
    })
}

/// Reads how the session consults. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_get_consult(
    session: *mut hybrid_session,
    out: *mut hybrid_consult,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let consult = unsafe { with(session, |c| Ok(c.session.consult())) }?;
        out.set(consult.into());
        Ok(())
    })
}

impl hybrid_consult {
    /// The core checks the ranges.
    fn parse(&self) -> Result<ConsultOptions> {
        Ok(ConsultOptions {
            burst: self.burst,
            deadline: Duration::from_millis(self.deadline_ms.into()),
            hand_back: pointers::flag(self.hand_back, "consult.hand_back")?,
            rescue: self.rescue,
            overlap: self.overlap,
            warm: pointers::flag(self.warm, "consult.warm")?,
        })
    }
}

impl From<ConsultOptions> for hybrid_consult {
    fn from(consult: ConsultOptions) -> hybrid_consult {
        hybrid_consult {
            struct_size: size_of::<hybrid_consult>(),
            burst: consult.burst,
            deadline_ms: u32::try_from(consult.deadline.as_millis()).unwrap_or(u32::MAX),
            hand_back: consult.hand_back.into(),
            rescue: consult.rescue,
            overlap: consult.overlap,
            warm: consult.warm.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_the_way_there_and_back() {
        let deadline = Duration::from_millis(1500);
        let options = ConsultOptions {
            burst: 3,
            deadline,
            hand_back: true,
            rescue: 2,
            overlap: 9,
            warm: true,
        };
        assert_eq!(hybrid_consult::from(options).parse().unwrap(), options);
        assert_eq!(hybrid_consult::neutral().parse().unwrap(), ConsultOptions::default());
        let wrong = hybrid_consult { hand_back: 2, ..hybrid_consult::neutral() };
        assert!(wrong.parse().unwrap_err().to_string().contains("consult.hand_back is 2"));
        let wrong = hybrid_consult { warm: 2, ..hybrid_consult::neutral() };
        assert!(wrong.parse().unwrap_err().to_string().contains("consult.warm is 2"));
    }
}
