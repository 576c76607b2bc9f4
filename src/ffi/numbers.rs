//! Enums of the header. A number that comes from C may be any number, so fields and arguments are
//! [`Number`]s; `cargo xtask header` writes them as the enum's type.

use std::marker::PhantomData;
use std::time::Duration;

use super::fault::{Result, bad};

/// An `int32_t` that should be a value of the enum `E`.
#[repr(transparent)]
pub struct Number<E> {
    value: i32,
    of: PhantomData<E>,
}

impl<E> Clone for Number<E> {
    fn clone(&self) -> Number<E> {
        *self
    }
}

impl<E> Copy for Number<E> {}

/// An enum of the header; see [`values`].
pub trait Enum: Copy + 'static {
    /// The name in the header.
    const NAME: &'static str;
    const ALL: &'static [Self];
    fn number(self) -> i32;
}

impl<E> Number<E> {
    /// Whatever number it is; elsewhere use [`Number::of`].
    pub(super) const fn raw(value: i32) -> Number<E> {
        Number { value, of: PhantomData }
    }
}

impl<E: Enum> Number<E> {
    pub(super) fn of(value: impl Into<E>) -> Number<E> {
        Number { value: value.into().number(), of: PhantomData }
    }

    /// The value; `None` for a number that is no value of the enum.
    pub(super) fn known(self) -> Option<E> {
        E::ALL.iter().copied().find(|known| known.number() == self.value)
    }

    /// The value of the field or argument `name`, as the core knows it.
    pub(super) fn get<C: From<E>>(self, name: &str) -> Result<C> {
        self.known().map(C::from).ok_or_else(|| {
            bad(format!("{name} is {}, which is no value of enum {}", self.value, E::NAME))
        })
    }
}

/// 64 bits of nanoseconds are 584 years.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Makes an [`Enum`] of an enum. Does not compile when a value is forgotten.
macro_rules! values {
    ($ours:ident { $($variant:ident),* $(,)? }) => {
        impl $crate::ffi::numbers::Enum for $ours {
            const NAME: &'static str = stringify!($ours);
            const ALL: &'static [$ours] = &[$($ours::$variant),*];
            fn number(self) -> i32 {
                match self {
                    $($ours::$variant => $ours::$variant as i32),*
                }
            }
        }
    };
}
pub(super) use values;

/// The same for an enum that is one of the core's in C: both have the same values by name.
macro_rules! mirror {
    ($ours:ident = $core:ident { $($variant:ident),* $(,)? }) => {
        $crate::ffi::numbers::values!($ours { $($variant),* });

        impl From<$core> for $ours {
            fn from(value: $core) -> $ours {
                match value {
                    $($core::$variant => $ours::$variant),*
                }
            }
        }

        impl From<$ours> for $core {
            fn from(value: $ours) -> $core {
                match value {
                    $($ours::$variant => $core::$variant),*
                }
            }
        }
    };
}
pub(super) use mirror;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Core {
        Low,
        High,
    }

    #[repr(i32)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum hybrid_level {
        Low = -1,
        High = 5,
    }
    mirror!(hybrid_level = Core { Low, High });

    #[test]
    fn known_numbers_are_values_and_others_are_named() {
        assert_eq!(size_of::<Number<hybrid_level>>(), size_of::<i32>());
        for core in [Core::Low, Core::High] {
            assert_eq!(Number::<hybrid_level>::of(core).get::<Core>("level").unwrap(), core);
        }
        for value in [0, 1, -2, i32::MIN, i32::MAX] {
            let number = Number::<hybrid_level>::raw(value);
            assert_eq!(number.known(), None);
            let text = number.get::<Core>("o.level").unwrap_err().to_string();
            let want = format!("o.level is {value}, which is no value of enum hybrid_level");
            assert!(text.ends_with(&want), "{text}");
        }
    }
}
