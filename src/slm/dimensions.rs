//! What the manifest says of the graph.

use crate::bundle::Bundle;
use crate::error::{Error, Result};

/// What the manifest says of the graph and the graph must agree with.
#[derive(Debug, Clone, Copy)]
pub struct Dimensions {
    pub layers: usize,
    #[cfg(feature = "plain")]
    pub kv_heads: usize,
    #[cfg(feature = "plain")]
    pub head_dim: usize,
    pub hidden_size: usize,
    pub vocabulary: usize,
    /// Ids at and above this one are padding.
    pub usable: usize,
    pub context: usize,
}

impl Dimensions {
    pub fn of(bundle: &Bundle) -> Result<Dimensions> {
        let model = &bundle.manifest().model;
        let usable = bundle.manifest().tokens.usable;
        let sizes = [
            model.layers,
            model.kv_heads,
            model.head_dim,
            model.hidden_size,
            usable,
            model.context,
        ];
        if sizes.contains(&0) || usable > model.vocabulary {
            return Err(Error::Bundle(
                "bundle.json: a size of the model is zero or usable exceeds the vocabulary".into(),
            ));
        }
        Ok(Dimensions {
            layers: model.layers,
            #[cfg(feature = "plain")]
            kv_heads: model.kv_heads,
            #[cfg(feature = "plain")]
            head_dim: model.head_dim,
            hidden_size: model.hidden_size,
            vocabulary: model.vocabulary,
            usable,
            context: model.context,
        })
    }
}
