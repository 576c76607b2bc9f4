//! A conversation kept outside: after a restart it goes on where it was, and a long prompt is read but once.
//!
//! Of the SLM's cache all but the context's last token is kept. That one is fed again, which gives the row that the
//! next candidate is drawn from. Options, cloud, statistics and with them budgets and breaker are the session's own.

use super::turns::Turns;
use super::{End, Session, Source};
use crate::error::{Error, Result};
use crate::sealed::{Format, Reader, Writer};

const FORMAT: Format = Format { magic: *b"HYBS", version: 2, name: "a session's state" };

/// What a state says.
struct State<'a> {
    ids: Vec<u32>,
    turns: Turns,
    queue: Vec<u32>,
    queue_source: Source,
    held: &'a [u8],
    stopped: bool,
    end: End,
    drawn: u64,
    /// Tokens in `cache`.
    cached: usize,
    cache: &'a [u8],
}

impl Session {
    /// Bytes of [`Session::save`] as the session is now: some 23 kB a token for SmolLM2-135M, 12 kB for Qwen2.5-0.5B.
    pub fn state_bytes(&self) -> usize {
        let mut bytes = self.proposer.cache_bytes(self.cached_tokens());
        let mut count = |piece: &[u8]| bytes += piece.len();
        let mut writer = FORMAT.write(&self.model, &mut count);
        self.write_conversation(&mut writer);
        writer.finish();
        bytes
    }

    /// Gives the conversation to `out`, piece by piece: the context with the SLM's cache, what of a burst and of the text was
    /// not handed out, and where the sampler is. It is only of use to sessions of the same model.
    pub fn save(&self, out: &mut dyn FnMut(&[u8])) {
        let mut writer = FORMAT.write(&self.model, out);
        self.write_conversation(&mut writer);
        self.proposer.write_cache(self.cached_tokens(), &mut |piece| writer.raw(piece));
        writer.finish();
    }

    /// Takes the conversation of `state`, which [`Session::save`] wrote, in place of its own. With the same options the
    /// next tokens are those that the saved session would have written.
    ///
    /// Errors, each leaving the session as it was: [`Error::InvalidArgument`] for bytes that are damaged, or of another
    /// model or version; [`Error::ContextFull`] for more tokens than this session may hold.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        let state = self.read(state)?;
        self.proposer.restore(state.cached, state.cache, state.drawn)?;
        self.context.truncate(0, &self.tokens);
        self.context.extend(&state.ids, &self.tokens);
        self.turns = state.turns;
        self.queue = state.queue.into();
        self.queue_source = state.queue_source;
        self.text.hold(state.held, state.stopped);
        self.end = state.end;
        Ok(())
    }

    /// The correction cache as bytes, see [`super::SessionOptions::correction_cache`]: 12 and 4 for each id a
    /// correction, 80 besides.
    pub fn save_corrections(&self) -> Vec<u8> {
        self.corrections.save(&self.model)
    }

    /// Takes what [`Session::save_corrections`] wrote in place of the cache's content; of more than it may
    /// hold, those used last.
    ///
    /// Errors, each leaving the cache as it was: [`Error::InvalidArgument`] for bytes that are damaged, or
    /// of another model, version or [`super::SessionOptions::correction_suffix`].
    pub fn restore_corrections(&mut self, bytes: &[u8]) -> Result<()> {
        self.corrections.restore(bytes, &self.model, self.tokens.info().usable)
    }

    /// Tokens of the cache that are kept.
    fn cached_tokens(&self) -> usize {
        self.proposer.cached(self.context.len())
    }

    fn write_conversation(&self, writer: &mut Writer) {
        writer.ids(self.context.ids());
        self.turns.write(writer);
        writer.count(self.queue.len());
        self.queue.iter().for_each(|&id| writer.u32(id));
        writer.u32(u32::from(self.queue_source == Source::Cached));
        let (held, stopped) = self.text.held();
        writer.bytes(held);
        writer.u32(u32::from(stopped));
        writer.u32(self.end as u32);
        writer.u64(self.proposer.drawn());
        writer.count(self.cached_tokens());
    }

    /// Everything that can be wrong with a state, before anything is changed.
    fn read<'a>(&self, state: &'a [u8]) -> Result<State<'a>> {
        let mut reader = FORMAT.read(&self.model, state)?;
        let ids = self.read_ids(&mut reader)?;
        let turns = Turns::read(&mut reader, ids.len())?;
        let queue = self.read_ids(&mut reader)?;
        let queue_source = if reader.u32()? == 0 { Source::Cloud } else { Source::Cached };
        let held = reader.bytes()?;
        let stopped = reader.u32()? != 0;
        let end = match reader.u32()? {
            0 => End::None,
            1 => End::StopToken,
            2 => End::StopString,
            _ => return Err(reader.error("it has an unknown end")),
        };
        let drawn = reader.u64()?;
        let cached = reader.count()?;
        if cached != 0 && cached >= ids.len() {
            return Err(reader.error("it has more cached tokens than others"));
        }
        let cache = reader.raw(self.proposer.cache_bytes(cached))?;
        reader.finish()?;
        Ok(State { ids, turns, queue, queue_source, held, stopped, end, drawn, cached, cache })
    }

    /// Tokens of this vocabulary, no more than the session may hold.
    fn read_ids(&self, reader: &mut Reader) -> Result<Vec<u32>> {
        let ids = reader.ids()?;
        if !ids.iter().all(|&id| self.tokens.is_usable(id)) {
            return Err(reader.error("it has tokens that there are not"));
        }
        let limit = self.proposer.capacity();
        if ids.len() > limit {
            return Err(Error::ContextFull { used: 0, needed: ids.len(), limit });
        }
        Ok(ids)
    }
}
