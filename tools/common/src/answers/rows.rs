//! The SLM's rows, computed once per context: sessions of one prompt share most of their contexts,
//! whatever gates them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hybrid::cancel::Cancel;
use hybrid::error::{Error, Result};
use hybrid::slm::{Output, Rows, SlmState};

use crate::records::reader::Reader;

/// Rows kept at a time take no more than this.
const MAX_ROW_BYTES: usize = 1 << 30;

/// So many tokens that a context may go on with are read with it: more cost too much where it does
/// not.
const AHEAD: usize = 6;
/// So many tokens must be equal before a known text says how a context may go on.
const ALIKE: usize = 3;

/// The SLM's rows after the contexts of one prompt's sessions.
pub struct SlmRows {
    reader: Reader,
    rows: HashMap<Vec<u32>, Output>,
    bytes: usize,
    /// What was written after this prompt, each with the prompt.
    texts: Vec<Vec<u32>>,
}

impl SlmRows {
    pub fn new(reader: Reader) -> SlmRows {
        SlmRows { reader, rows: HashMap::new(), bytes: 0, texts: Vec::new() }
    }

    /// Another prompt is next.
    pub fn forget(&mut self) {
        self.rows.clear();
        self.bytes = 0;
        self.texts.clear();
    }

    /// A text that later ones may repeat in part. It saves time and changes no row: a token's row
    /// is the same in a batch and alone.
    pub fn note(&mut self, text: &[u32]) {
        if !self.texts.iter().any(|known| known == text) {
            self.texts.push(text.to_vec());
        }
    }

    fn row(&mut self, context: &[u32]) -> Result<Output> {
        if let Some(row) = self.rows.get(context) {
            return Ok(row.clone());
        }
        let ahead = ahead(&self.texts, context);
        let room = self.reader.room(context).min(ahead.len());
        let ahead = ahead[..room].to_vec();
        let output = self.reader.after_each(context, &ahead).map_err(own)?;
        let logits = output.logits.chunks_exact(self.reader.vocabulary());
        let hidden = output.hidden.chunks_exact(self.reader.hidden_size());
        let mut context = context.to_vec();
        let mut first = None;
        for (at, (logits, hidden)) in logits.zip(hidden).enumerate() {
            let row = Output { logits: logits.to_vec(), hidden: hidden.to_vec() };
            first.get_or_insert_with(|| row.clone());
            self.keep(context.clone(), row);
            context.extend(ahead.get(at));
        }
        first.ok_or_else(|| Error::Model("the SLM gave no row".into()))
    }

    fn keep(&mut self, context: Vec<u32>, row: Output) {
        let bytes = 4 * (row.logits.len() + row.hidden.len());
        if self.bytes + bytes > MAX_ROW_BYTES {
            self.rows.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.rows.insert(context, row);
    }
}

/// How `context` may go on: as that known text does in which the most tokens before are the same.
fn ahead<'a>(texts: &'a [Vec<u32>], context: &[u32]) -> &'a [u32] {
    let alike = |text: &[u32]| {
        text.iter().rev().zip(context.iter().rev()).take_while(|(a, b)| a == b).count()
    };
    let places = texts.iter().flat_map(|text| (ALIKE..text.len()).map(move |at| text.split_at(at)));
    let found = places
        .map(|(before, after)| (alike(before), after))
        .filter(|(count, _)| *count >= ALIKE)
        .max_by_key(|(count, _)| *count);
    found.map_or(&[], |(_, after)| &after[..after.len().min(AHEAD)])
}

/// The library's error, which the tool's code passes on.
fn own(error: anyhow::Error) -> Error {
    error.downcast().unwrap_or_else(|error| Error::Model(format!("{error:#}")))
}

/// One session's state on shared rows.
pub struct SharedState {
    rows: Arc<Mutex<SlmRows>>,
    context: Vec<u32>,
    capacity: usize,
}

impl SharedState {
    pub fn new(rows: Arc<Mutex<SlmRows>>) -> SharedState {
        let capacity = rows.lock().unwrap_or_else(PoisonError::into_inner).reader.room(&[]);
        SharedState { rows, context: Vec::new(), capacity }
    }
}

impl SlmState for SharedState {
    fn len(&self) -> usize {
        self.context.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn feed(&mut self, ids: &[u32], wanted: Rows, _: &Cancel) -> Result<Output> {
        let mut shared = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = self.context.clone();
        let mut output = Output::default();
        for (at, &id) in ids.iter().enumerate() {
            context.push(id);
            if wanted == Rows::All || at + 1 == ids.len() {
                let row = shared.row(&context)?;
                output.logits.extend(row.logits);
                output.hidden.extend(row.hidden);
            }
        }
        self.context = context;
        Ok(output)
    }

    fn rewind(&mut self, n: usize) -> Result<()> {
        let kept = self.context.len().checked_sub(n).ok_or_else(|| {
            Error::InvalidArgument(format!("rewind by {n} tokens of {}", self.context.len()))
        })?;
        self.context.truncate(kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_may_go_on_as_the_text_most_like_it() {
        let texts = [vec![1, 2, 3, 4, 5], vec![9, 2, 3, 4, 6, 7, 2, 3, 4, 8], (20..40).collect()];
        let table: [(&[u32], &[u32]); 6] = [
            (&[], &[]),
            (&[3, 4], &[]),
            (&[1, 2, 3, 4], &[5]),
            (&[9, 2, 3, 4], &[6, 7, 2, 3, 4, 8]),
            (&[0, 7, 2, 3, 4], &[8]),
            (&[20, 21, 22], &[23, 24, 25, 26, 27, 28]),
        ];
        for (context, want) in table {
            assert_eq!(ahead(&texts, context), want, "{context:?}");
        }
    }
}
