//! Bytes that are kept outside the library, such as a session's state in a file: written with a
//! header and a checksum, and read only if they are whole and belong here.
//!
//! Layout, little endian: magic (4 bytes), version (u32), fingerprint (32 bytes), body, BLAKE3 of
//! all that is before it (32 bytes). The checksum finds damage, not forgery: readers believe
//! nothing of the body.

use blake3::Hasher;

use crate::error::{Error, Result};

/// What the bytes are of, for example a model: nothing else can use them.
pub type Fingerprint = [u8; HASH];

const HASH: usize = 32;

/// A kind of sealed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub magic: [u8; 4],
    pub version: u32,
    /// For errors, for example "a session's state".
    pub name: &'static str,
}

impl Format {
    /// Bytes of header and checksum.
    pub const OVERHEAD: usize = 4 + 4 + 2 * HASH;

    /// Begins to write; what it writes goes to `out` piece by piece.
    pub fn write<'a>(
        &self,
        fingerprint: &Fingerprint,
        out: &'a mut dyn FnMut(&[u8]),
    ) -> Writer<'a> {
        let mut writer = Writer { out, hasher: Hasher::new() };
        writer.raw(&self.magic);
        writer.u32(self.version);
        writer.raw(fingerprint);
        writer
    }

    /// The body of `bytes`.
    ///
    /// Errors: [`Error::InvalidArgument`] for bytes of another kind, version or fingerprint, and
    /// for damaged ones.
    pub fn read<'a>(&self, fingerprint: &Fingerprint, bytes: &'a [u8]) -> Result<Reader<'a>> {
        let mut reader = Reader { rest: bytes, name: self.name };
        if reader.raw(4)? != self.magic {
            return Err(reader.error("these bytes are something else"));
        }
        if reader.u32()? != self.version {
            return Err(reader.error("written by another version of the library"));
        }
        if reader.raw(HASH)? != fingerprint {
            return Err(reader.error("it belongs to another model"));
        }
        let body = reader.rest.len().checked_sub(HASH).ok_or_else(|| reader.cut_off())?;
        let (body, checksum) = reader.rest.split_at(body);
        let sealed = bytes.len() - HASH;
        if blake3::hash(&bytes[..sealed]).as_slice() != checksum {
            return Err(reader.error("it is damaged or cut off"));
        }
        Ok(Reader { rest: body, ..reader })
    }
}

/// Writes a body. Lists have their length in front.
pub struct Writer<'a> {
    out: &'a mut dyn FnMut(&[u8]),
    hasher: Hasher,
}

impl Writer<'_> {
    pub fn raw(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        (self.out)(bytes);
    }

    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// A length or another small number.
    pub fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub fn ids(&mut self, ids: &[u32]) {
        self.count(ids.len());
        for &id in ids {
            self.u32(id);
        }
    }

    /// Adds the checksum.
    pub fn finish(self) {
        (self.out)(self.hasher.finalize().as_bytes());
    }
}

/// Reads a body, in the order in which it was written. Every error is [`Error::InvalidArgument`].
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    name: &'static str,
}

impl<'a> Reader<'a> {
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.cut_off())?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn count(&mut self) -> Result<usize> {
        Ok(self.u32()? as usize)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.count()?;
        self.raw(len)
    }

    pub fn text(&mut self) -> Result<String> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.error("a text in it is not UTF-8"))
    }

    pub fn ids(&mut self) -> Result<Vec<u32>> {
        let bytes = self.count()?.checked_mul(4).ok_or_else(|| self.cut_off())?;
        let ids = self.raw(bytes)?.as_chunks::<4>().0;
        Ok(ids.iter().map(|id| u32::from_le_bytes(*id)).collect())
    }

    /// Nothing is left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("it is too long")) }
    }

    pub fn error(&self, why: &str) -> Error {
        Error::InvalidArgument(format!("{} cannot be read: {why}", self.name))
    }

    fn cut_off(&self) -> Error {
        self.error("it is cut off")
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.raw(N)?;
        bytes.try_into().map_err(|_| self.cut_off())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { magic: *b"TEST", version: 3, name: "a test" };

    fn sealed(format: Format, fingerprint: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = |piece: &[u8]| bytes.extend_from_slice(piece);
        let mut writer = format.write(&[fingerprint; HASH], &mut out);
        writer.u64(7);
        writer.ids(&[1, u32::MAX]);
        writer.bytes("é".as_bytes());
        writer.finish();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(u64, Vec<u32>, String)> {
        let mut reader = FORMAT.read(&[1; HASH], bytes)?;
        let read = (reader.u64()?, reader.ids()?, reader.text()?);
        reader.finish()?;
        Ok(read)
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = sealed(FORMAT, 1);
        assert_eq!(bytes.len(), Format::OVERHEAD + 8 + 12 + 6);
        assert_eq!(read(&bytes).unwrap(), (7, vec![1, u32::MAX], "é".into()));
    }

    #[test]
    fn what_does_not_belong_here_is_refused() {
        let rows = [
            (sealed(Format { magic: *b"ELSE", ..FORMAT }, 1), "something else"),
            (sealed(Format { version: 2, ..FORMAT }, 1), "another version"),
            (sealed(FORMAT, 2), "another model"),
            (Vec::new(), "cut off"),
        ];
        for (bytes, why) in rows {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    /// Cut at any byte, or any bit flipped.
    #[test]
    fn damage_is_found() {
        let whole = sealed(FORMAT, 1);
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut to {len}");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged).is_err(), "bit {bit}");
        }
    }

    /// A body that lies about its lengths, with a right checksum.
    #[test]
    fn lengths_are_not_believed() {
        let mut bytes = Vec::new();
        let mut out = |piece: &[u8]| bytes.extend_from_slice(piece);
        let mut writer = FORMAT.write(&[1; HASH], &mut out);
        writer.u64(7);
        writer.u32(u32::MAX);
        writer.finish();
        assert!(read(&bytes).unwrap_err().to_string().contains("cut off"));
    }
}
