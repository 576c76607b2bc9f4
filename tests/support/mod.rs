//! A TLS server of our own with scripted answers, for everything that must be deterministic.
//!
//! ```ignore
//! let server = Server::start(&Identity::good(), |request| Reaction::json(200, "{}"));
//! let cloud = Cloud::new(CloudOptions { url: server.url(), roots: server.roots(), .. });
//! ```
//!
//! It listens on 127.0.0.1 only, every loop in it is bounded, and it ends when dropped.

// Each test binary compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]

mod certificates;
mod logs;
mod proxy;
mod server;
mod vocabulary;

pub use certificates::{Identity, base64};
pub use logs::Logs;
pub use proxy::Proxy;
pub use server::{Reaction, Recorded, Response, Server};
pub use vocabulary::Toy;
