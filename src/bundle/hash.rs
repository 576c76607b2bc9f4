//! SHA-256 of files and of the vocabulary.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// One read of a file that is hashed.
const CHUNK: usize = 1 << 20;

pub(super) fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn is_hex_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Lower-case hex SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// Lower-case hex SHA-256 of all that `from` holds. `progress` is given the bytes of each read.
pub fn sha256_reader(from: &mut dyn Read, progress: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(hex(hasher.finalize())),
            Ok(n) => {
                hasher.update(chunk.get(..n).unwrap_or(&chunk));
                progress(n as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Identifies a vocabulary: lower-case hex SHA-256 over the exact bytes of every usable id, in the order of
/// ids, each with its length in front (32 bits, little endian). The bytes of a control token are its text.
pub fn fingerprint<'a>(bytes_of: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for bytes in bytes_of {
        hasher.update((bytes.len() as u32).to_le_bytes());
        hasher.update(bytes);
    }
    hex(hasher.finalize())
}

/// Hashes and counts what passes through to `inner`.
pub(super) struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        HashingWriter { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// The inner writer, the bytes written and their hash.
    pub(super) fn finish(self) -> (W, u64, String) {
        (self.inner, self.bytes, hex(self.hasher.finalize()))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn all_three_ways_give_the_published_digest() {
        assert_eq!(sha256(b"abc"), ABC);
        let mut seen = 0;
        assert_eq!(sha256_reader(&mut &b"abc"[..], &mut |n| seen += n).unwrap(), ABC);
        assert_eq!(seen, 3);
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"abc").unwrap();
        assert_eq!(writer.finish(), (b"abc".to_vec(), 3, ABC.to_owned()));
    }

    #[test]
    fn the_fingerprint_depends_on_where_tokens_end() {
        let of = |tokens: &[&[u8]]| fingerprint(tokens.iter().copied());
        assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"ab", b"c", b""]));
        // Length 1 and 'a', spelled out.
        assert_eq!(of(&[b"a"]), sha256(&[1, 0, 0, 0, b'a']));
    }
}
