//! A conversation kept outside: after a restart it goes on where it was, and a long prompt is read
//! but once.
//!
//! Of the SLM's cache all but the context's last token is kept. That one is fed again, which gives
//! the row that the next candidate is drawn from. Options, cloud, statistics and with them budgets
//! and breaker are the session's own.

use super::turns::Turns;
use super::{End, Session, Source};
use crate::error::{Error, Result};
use crate::sealed::{Format, Reader, Writer};

const FORMAT: Format = Format { magic: *b"HYBS", version: 3, name: "a session's state" };

/// What a state says.
struct State<'a> {
    ids: Vec<u32>,
    turns: Turns,
    burst: Vec<u32>,
    burst_source: Source,
    held: &'a [u8],
    stopped: bool,
    end: End,
    drawn: u64,
    /// Tokens in `cache`.
    cached: usize,
    cache: &'a [u8],
}

impl Session {
    /// Bytes of [`Session::save`] as the session is now: some 23 kB a token for SmolLM2-135M, 12 kB
    /// for Qwen2.5-0.5B.
    pub fn state_bytes(&self) -> usize {
        let mut bytes = self.proposer.reader().cache_bytes(self.cached_tokens());
        let mut count = |piece: &[u8]| bytes += piece.len();
        let mut writer = FORMAT.write(&self.base.fingerprint(), &mut count);
        self.write_conversation(&mut writer);
        writer.finish();
        bytes
    }

    /// Gives the conversation to `out`, piece by piece: the context with the SLM's cache, what of a
    /// burst and of the text was not handed out, and where the sampler is. It is only of use to
    /// sessions of the same model.
    pub fn save(&self, out: &mut dyn FnMut(&[u8])) {
        let mut writer = FORMAT.write(&self.base.fingerprint(), out);
        self.write_conversation(&mut writer);
        self.proposer.reader().write_cache(self.cached_tokens(), &mut |piece| writer.raw(piece));
        writer.finish();
    }

    /// Takes the conversation of `state`, which [`Session::save`] wrote, in place of its own. With
    /// the same options the next tokens are those that the saved session would have written.
    ///
    /// Errors, each leaving the session as it was: [`Error::InvalidArgument`] for bytes that are
    /// damaged, or of another model or version; [`Error::ContextFull`] for more tokens than this
    /// session may hold.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        let state = self.read(state)?;
        self.proposer.restore(state.cached, state.cache, state.drawn)?;
        self.conversation.context.truncate(0, &self.tokens);
        self.conversation.context.extend(&state.ids, &self.tokens);
        self.conversation.turns = state.turns;
        self.conversation.burst = state.burst.into();
        self.conversation.burst_source = state.burst_source;
        self.conversation.text.hold(state.held, state.stopped);
        self.conversation.end = state.end;
        Ok(())
    }

    /// The corrections as bytes, see [`super::CorrectionOptions`]: 80, and for each correction 12
    /// and 4 for each of its ids.
    pub fn save_corrections(&self) -> Vec<u8> {
        self.corrections.save(&self.base.fingerprint())
    }

    /// Takes what [`Session::save_corrections`] wrote in place of the corrections there are; of
    /// more than the capacity, those used last.
    ///
    /// Errors, with nothing changed: [`Error::InvalidArgument`] for bytes that are damaged, or of
    /// another model, version or [`super::CorrectionOptions::suffix`].
    pub fn restore_corrections(&mut self, bytes: &[u8]) -> Result<()> {
        self.corrections.restore(bytes, &self.base.fingerprint(), self.tokens.info().usable)
    }

    /// Tokens of the cache that are kept.
    fn cached_tokens(&self) -> usize {
        self.proposer.reader().cached(self.conversation.context.len())
    }

    fn write_conversation(&self, writer: &mut Writer) {
        writer.ids(self.conversation.context.ids());
        self.conversation.turns.write(writer);
        writer.count(self.conversation.burst.len());
        self.conversation.burst.iter().for_each(|&id| writer.u32(id));
        writer.u32(u32::from(self.conversation.burst_source == Source::Correction));
        let (held, stopped) = self.conversation.text.held();
        writer.bytes(held);
        writer.u32(u32::from(stopped));
        writer.u32(self.conversation.end as u32);
        writer.u64(self.proposer.drawn());
        writer.count(self.cached_tokens());
    }

    /// Everything that can be wrong with a state, before anything is changed.
    fn read<'a>(&self, state: &'a [u8]) -> Result<State<'a>> {
        let mut reader = FORMAT.read(&self.base.fingerprint(), state)?;
        let ids = self.read_ids(&mut reader)?;
        let turns = Turns::read(&mut reader, ids.len())?;
        let burst = self.read_ids(&mut reader)?;
        let burst_source = if reader.u32()? == 0 { Source::Cloud } else { Source::Correction };
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
        let cache = reader.raw(self.proposer.reader().cache_bytes(cached))?;
        reader.finish()?;
        Ok(State { ids, turns, burst, burst_source, held, stopped, end, drawn, cached, cache })
    }

    /// Tokens of this vocabulary, no more than the session may hold.
    fn read_ids(&self, reader: &mut Reader) -> Result<Vec<u32>> {
        let ids = reader.ids()?;
        if !ids.iter().all(|&id| self.tokens.is_usable(id)) {
            return Err(reader.error("it has tokens that there are not"));
        }
        let limit = self.proposer.reader().capacity();
        if ids.len() > limit {
            return Err(Error::ContextFull { used: 0, needed: ids.len(), limit });
        }
        Ok(ids)
    }
}
