//! Budget
//!
//! What the cloud may cost: limits for the whole session, and one that the library holds hour by
//! hour.

use super::boundary::enter;
use super::fault::{Result, bad};
use super::numbers::{Number, values};
use super::objects::hybrid_session;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::controller::{Hold, Unit};
use crate::policy::Budget;

/// No limit.
pub const HYBRID_UNLIMITED: u64 = 0xffff_ffff_ffff_ffff;

/// What the library holds by moving the threshold after every token.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_hold {
    /// Nothing: the threshold stays.
    None = 0,
    /// The cloud's share of the tokens, between 0 and 1.
    Share = 1,
    /// Consults per hour.
    ConsultsPerHour = 2,
    /// Bytes sent and received per hour.
    BytesPerHour = 3,
    /// Money per hour, by the prices of tokens.
    MoneyPerHour = 4,
}
values!(hybrid_hold { None, Share, ConsultsPerHour, BytesPerHour, MoneyPerHour });

/// What the cloud may cost. Once a limit is reached, steps keep the SLM's candidates as
/// HYBRID_SOURCE_FALLBACK. A consult that has begun may go beyond the limit. Fields that `hold`
/// does not name must be 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_budget {
    /// sizeof(hybrid_budget).
    pub struct_size: usize,
    /// Consults of the session at most, failed ones included. Default: HYBRID_UNLIMITED.
    pub consults: u64,
    /// Tokens of the cloud's answers at most, handed out or not. Default: HYBRID_UNLIMITED.
    pub tokens: u64,
    /// Bytes sent and received at most. Default: HYBRID_UNLIMITED.
    pub bytes: u64,
    /// What `hold` holds, over 0: the share, or the consults, bytes or money per hour. An hour
    /// exceeds it by a part of one consult at most. Default: 0.
    pub hold_limit: f64,
    /// For HYBRID_HOLD_MONEY_PER_HOUR: the price of one prompt token that the server bills, in the
    /// unit of `hold_limit`. Default: 0.
    pub price_prompt_token: f64,
    /// For HYBRID_HOLD_MONEY_PER_HOUR: the price of one token of the answer. Default: 0.
    pub price_answer_token: f64,
    /// Lets the threshold move so that the session keeps to `hold_limit`. It starts at the gate's
    /// threshold, which must be over 0 and no guarantee. For HYBRID_HOLD_SHARE with the gate's
    /// HYBRID_THRESHOLD_BY_DEFAULT it starts where the bundle's calibration has that share. Acts in
    /// the mode HYBRID_MODE_HYBRID. Default: HYBRID_HOLD_NONE.
    pub hold: Number<hybrid_hold>,
    /// 0.
    pub reserved: i32,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_budget {
    const NAME: &'static str = "hybrid_budget";
    const FIRST: usize = end_of!(Self, reserved);
    fn neutral() -> Self {
        Budget::default().into()
    }
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_budget).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_budget_init(
    budget: *mut hybrid_budget,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(budget, struct_size, "budget") })
}

/// Sets the session's budget. The limits count from the session's beginning: what it has spent
/// stays spent. A `hold` that changes starts again at the gate's threshold, with nothing spent. Its
/// hours count from the session's beginning.
/// HYBRID_ERR_INVALID_ARGUMENT: also for a `hold` while the gate's threshold is 0 or a guarantee.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_budget(
    session: *mut hybrid_session,
    budget: *const hybrid_budget,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let budget = unsafe { sized::read_required(budget, "budget") }?.parse()?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.set_budget(budget)) }
    })
}

/// Reads the session's budget. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_get_budget(
    session: *mut hybrid_session,
    out: *mut hybrid_budget,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let budget = unsafe { with(session, |c| Ok(c.session.budget())) }?;
        out.set(budget.into());
        Ok(())
    })
}

impl hybrid_budget {
    /// The core checks the ranges.
    fn parse(&self) -> Result<Budget> {
        if self.reserved != 0 {
            return Err(bad("budget.reserved must be 0; call hybrid_budget_init first".into()));
        }
        let hold = self.hold.get("budget.hold")?;
        let (holds, pays) = (hold != hybrid_hold::None, hold == hybrid_hold::MoneyPerHour);
        for (value, used, name) in [
            (self.hold_limit, holds, "hold_limit"),
            (self.price_prompt_token, pays, "price_prompt_token"),
            (self.price_answer_token, pays, "price_answer_token"),
        ] {
            if value.to_bits() != 0 && !used {
                return Err(bad(format!(
                    "budget.{name} is set, but budget.hold does not name it; set both or neither"
                )));
            }
        }
        let limit = self.hold_limit;
        let per_hour = |unit| Some(Hold::PerHour { limit, unit });
        Ok(Budget {
            consults: finite(self.consults),
            tokens: finite(self.tokens),
            bytes: finite(self.bytes),
            hold: match hold {
                hybrid_hold::None => None,
                hybrid_hold::Share => Some(Hold::Share(limit)),
                hybrid_hold::ConsultsPerHour => per_hour(Unit::Consults),
                hybrid_hold::BytesPerHour => per_hour(Unit::Bytes),
                hybrid_hold::MoneyPerHour => per_hour(Unit::Money {
                    prompt_token: self.price_prompt_token,
                    answer_token: self.price_answer_token,
                }),
            },
        })
    }
}

impl From<Budget> for hybrid_budget {
    fn from(budget: Budget) -> hybrid_budget {
        let mut out = hybrid_budget {
            struct_size: size_of::<hybrid_budget>(),
            consults: budget.consults.unwrap_or(HYBRID_UNLIMITED),
            tokens: budget.tokens.unwrap_or(HYBRID_UNLIMITED),
            bytes: budget.bytes.unwrap_or(HYBRID_UNLIMITED),
            hold_limit: 0.0,
            price_prompt_token: 0.0,
            price_answer_token: 0.0,
            hold: Number::of(hybrid_hold::None),
            reserved: 0,
        };
        let hold = match budget.hold {
            None => hybrid_hold::None,
            Some(Hold::Share(share)) => {
                out.hold_limit = share;
                hybrid_hold::Share
            }
            Some(Hold::PerHour { limit, unit }) => {
                out.hold_limit = limit;
                match unit {
                    Unit::Consults => hybrid_hold::ConsultsPerHour,
                    Unit::Bytes => hybrid_hold::BytesPerHour,
                    Unit::Money { prompt_token, answer_token } => {
                        out.price_prompt_token = prompt_token;
                        out.price_answer_token = answer_token;
                        hybrid_hold::MoneyPerHour
                    }
                }
            }
        };
        out.hold = Number::of(hold);
        out
    }
}

fn finite(limit: u64) -> Option<u64> {
    (limit != HYBRID_UNLIMITED).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_budget_survives_the_way_there_and_back() {
        let per_hour = |unit| Some(Hold::PerHour { limit: 0.5, unit });
        for hold in [
            None,
            // No f32.
            Some(Hold::Share(0.1)),
            per_hour(Unit::Consults),
            per_hour(Unit::Bytes),
            per_hour(Unit::Money { prompt_token: 1.0, answer_token: 2.0 }),
        ] {
            let budget = Budget { consults: Some(0), tokens: Some(7), bytes: None, hold };
            assert_eq!(hybrid_budget::from(budget).parse().unwrap(), budget);
        }
        assert_eq!(hybrid_budget::neutral().parse().unwrap(), Budget::default());
    }

    #[test]
    fn a_bad_field_is_named() {
        for (budget, want) in [
            (
                hybrid_budget { hold: Number::raw(5), ..hybrid_budget::neutral() },
                "budget.hold is 5",
            ),
            (hybrid_budget { reserved: 1, ..hybrid_budget::neutral() }, "budget.reserved"),
            (
                hybrid_budget { hold_limit: 0.5, ..hybrid_budget::neutral() },
                "budget.hold_limit is set",
            ),
            (
                hybrid_budget {
                    hold: Number::of(hybrid_hold::Share),
                    hold_limit: 0.5,
                    price_answer_token: f64::NAN,
                    ..hybrid_budget::neutral()
                },
                "budget.price_answer_token is set",
            ),
        ] {
            let text = budget.parse().unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
