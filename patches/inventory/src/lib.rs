//! Stands in for the crate `inventory`, by which the parts of tract register themselves before
//! `main`.
//!
//! The interface is that crate's, as far as tract uses it. The difference: what is registered as
//! one of [`LEFT_OUT`] is forgotten while compiling. tract registers model transforms that a
//! command line may name. Through them a program on a board would carry a reader and writer of the
//! NNEF format, FFTs, pooling and resizing: 2.5 MB that nothing ever calls.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Types of which nothing is kept.
const LEFT_OUT: [&str; 1] = ["ModelTransformFactory"];

/// A type whose values can be submitted anywhere and iterated over.
pub trait Collect: Sync + Sized + 'static {
    const KEPT: bool;

    fn registry() -> &'static Registry;
}

/// The submitted values of one type.
pub struct Registry(AtomicPtr<Node>);

impl Registry {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Registry {
        Registry(AtomicPtr::new(ptr::null_mut()))
    }

    fn add(&self, node: &'static Node) {
        let this = ptr::from_ref(node).cast_mut();
        let mut head = self.0.load(Ordering::Acquire);
        loop {
            node.next.store(head, Ordering::Relaxed);
            match self.0.compare_exchange_weak(head, this, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
    }
}

/// One submitted value in its registry.
pub struct Node {
    value: &'static dyn Submit,
    next: AtomicPtr<Node>,
}

impl Node {
    pub const fn new(value: &'static dyn Submit) -> Node {
        Node { value, next: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// [`Collect`] for values whose type a macro cannot name.
pub trait Submit: Sync {
    fn submit(&self, node: &'static Node);
}

impl<T: Collect> Submit for T {
    #[inline(always)]
    fn submit(&self, node: &'static Node) {
        if T::KEPT {
            T::registry().add(node);
        }
    }
}

/// Whether values of a type are kept, by the name it is declared with.
pub const fn kept(name: &str) -> bool {
    let mut at = 0;
    while at < LEFT_OUT.len() {
        if equal(name.as_bytes(), LEFT_OUT[at].as_bytes()) {
            return false;
        }
        at += 1;
    }
    true
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// `iter::<T>()` and `iter::<T>.into_iter()`: over all values, the last submitted first.
pub enum Values<T> {
    #[allow(non_camel_case_types)]
    iter,
    #[doc(hidden)]
    Never(PhantomData<T>, std::convert::Infallible),
}

pub use Values::iter;

impl<T: Collect> Deref for Values<T> {
    type Target = fn() -> Iter<T>;

    fn deref(&self) -> &Self::Target {
        &(Iter::new as fn() -> Iter<T>)
    }
}

impl<T: Collect> IntoIterator for Values<T> {
    type Item = &'static T;
    type IntoIter = Iter<T>;

    fn into_iter(self) -> Iter<T> {
        Iter::new()
    }
}

pub struct Iter<T> {
    next: *const Node,
    values: PhantomData<T>,
}

impl<T: Collect> Iter<T> {
    fn new() -> Iter<T> {
        Iter { next: T::registry().0.load(Ordering::Acquire), values: PhantomData }
    }
}

impl<T: Collect> Iterator for Iter<T> {
    type Item = &'static T;

    fn next(&mut self) -> Option<&'static T> {
        // SAFETY: null, or a node that was added and lives as long as the program.
        let node = unsafe { self.next.as_ref() }?;
        self.next = node.next.load(Ordering::Acquire);
        // SAFETY: only values of type T are added to the registry of T, see `Submit`.
        Some(unsafe { &*ptr::from_ref(node.value).cast::<T>() })
    }
}

/// Makes a type one whose values can be submitted.
#[macro_export]
macro_rules! collect {
    ($type:ty) => {
        impl $crate::Collect for $type {
            const KEPT: bool = $crate::kept(::std::stringify!($type));

            #[inline]
            fn registry() -> &'static $crate::Registry {
                static REGISTRY: $crate::Registry = $crate::Registry::new();
                &REGISTRY
            }
        }
    };
}

/// Adds a constant value to those of its type, before `main`.
#[macro_export]
macro_rules! submit {
    ($value:expr) => {
        const _: () = {
            static VALUE: &dyn $crate::Submit = &{ $value };
            static __INVENTORY: $crate::Node = $crate::Node::new(VALUE);

            extern "C" fn submit() {
                // Not through the node, which changes: so the compiler sees whether anything is
                // kept.
                $crate::Submit::submit(VALUE, &__INVENTORY);
            }

            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() = submit;
        };
    };
}
