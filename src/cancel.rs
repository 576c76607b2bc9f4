//! A flag that any thread (or a signal handler) raises to stop a running call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Clones share the flag. Raising it is async-signal-safe.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    raised: Arc<AtomicBool>,
    parent: Option<Box<Cancel>>,
}

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that counts as raised while this one is. Raising it leaves this one as it is.
    pub fn child(&self) -> Cancel {
        Cancel { raised: Arc::default(), parent: Some(Box::new(self.clone())) }
    }

    pub fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
    }

    /// Lowers the flag again, so that the next call runs.
    pub fn lower(&self) {
        self.raised.store(false, Ordering::Relaxed);
    }

    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
            || self.parent.as_ref().is_some_and(|parent| parent.is_raised())
    }

    /// `Err(Error::Cancelled)` once the flag is up.
    pub fn check(&self) -> Result<()> {
        if self.is_raised() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_follows_its_parent_and_not_the_other_way_round() {
        let parent = Cancel::new();
        let (child, other) = (parent.child(), parent.child());
        child.raise();
        let raised = [&parent, &child, &other, &child.clone(), &child.child()];
        assert_eq!(raised.map(|flag| flag.is_raised()), [false, true, false, true, true]);
        child.lower();
        parent.clone().raise();
        assert!(child.is_raised() && other.check().is_err());
        parent.lower();
        assert!(!child.is_raised() && other.check().is_ok());
    }
}
