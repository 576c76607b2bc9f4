//! Hashes of files and of the vocabulary.
//!
//! BLAKE3 is what the runtime checks, because SHA-256 is slow on a CPU without instructions for it
//! (docs/bundle.md). Files have their SHA-256, too, for which every machine has a tool; the runtime
//! does not compute it.

use std::io::{self, Read, Write};

use blake3::Hasher as Blake3;
use sha2::{Digest, Sha256};

use super::FileEntry;

/// One read of a file that is hashed.
const CHUNK: usize = 1 << 20;

pub(super) fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Lower-case hex SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// Lower-case hex BLAKE3 of `bytes`.
pub(super) fn blake3_of(bytes: &[u8]) -> String {
    hex(blake3::hash(bytes).as_bytes())
}

/// Lower-case hex SHA-256 of all that `from` holds. `progress` is given the bytes of each read.
pub fn sha256_reader(from: &mut dyn Read, progress: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut hasher = Sha256::new();
    read_all(from, &mut |bytes| {
        hasher.update(bytes);
        progress(bytes.len() as u64);
        true
    })?;
    Ok(hex(hasher.finalize()))
}

/// As [`sha256_reader`], with BLAKE3. `None` once `progress` is `false`.
pub(super) fn blake3_reader(
    from: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> bool,
) -> io::Result<Option<String>> {
    let mut hasher = Blake3::new();
    let all = read_all(from, &mut |bytes| {
        hasher.update(bytes);
        progress(bytes.len() as u64)
    })?;
    Ok(all.then(|| hex(hasher.finalize().as_bytes())))
}

/// Whether all was read: `visit` goes on with `true`.
fn read_all(from: &mut dyn Read, visit: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(n) => {
                if !visit(chunk.get(..n).unwrap_or(&chunk)) {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Identifies a vocabulary: lower-case hex BLAKE3 over the exact bytes of every usable id, in the
/// order of ids, each with its length in front (32 bits, little endian). The bytes of a control
/// token are its text.
pub fn fingerprint<'a>(bytes_of: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = Blake3::new();
    for bytes in bytes_of {
        hasher.update(&(bytes.len() as u32).to_le_bytes());
        hasher.update(bytes);
    }
    hex(hasher.finalize().as_bytes())
}

/// Hashes and counts what passes through to `inner`.
pub(super) struct HashingWriter<W> {
    inner: W,
    sha256: Sha256,
    blake3: Blake3,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        HashingWriter { inner, sha256: Sha256::new(), blake3: Blake3::new(), bytes: 0 }
    }

    /// The inner writer, and the file `name` that was written to it.
    pub(super) fn finish(self, name: &str) -> (W, FileEntry) {
        let entry = FileEntry {
            name: name.to_owned(),
            bytes: self.bytes,
            sha256: hex(self.sha256.finalize()),
            blake3: hex(self.blake3.finalize().as_bytes()),
        };
        (self.inner, entry)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        let bytes = bytes.get(..written).unwrap_or(bytes);
        self.sha256.update(bytes);
        self.blake3.update(bytes);
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

    /// Published digests of "abc".
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const BLAKE3: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

    #[test]
    fn all_ways_give_the_published_digests() {
        assert_eq!(sha256(b"abc"), SHA256);
        assert_eq!(blake3_of(b"abc"), BLAKE3);
        let mut seen = 0;
        assert_eq!(sha256_reader(&mut &b"abc"[..], &mut |n| seen += n).unwrap(), SHA256);
        let go_on = |n, go_on| {
            blake3_reader(&mut &b"abc"[..], &mut |read| {
                assert_eq!(read, n);
                go_on
            })
        };
        assert_eq!(go_on(3, true).unwrap().as_deref(), Some(BLAKE3));
        assert_eq!(go_on(3, false).unwrap(), None);
        assert_eq!(seen, 3);
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        let (name, bytes) = ("abc.bin".to_owned(), 3);
        let entry = FileEntry { name, bytes, sha256: SHA256.into(), blake3: BLAKE3.into() };
        assert_eq!(writer.finish("abc.bin"), (b"abc".to_vec(), entry));
    }

    #[test]
    fn the_kernels_for_many_blocks_hash_as_the_one_for_one() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        let mut one = Blake3::new();
        for byte in &bytes {
            one.update(&[*byte]);
        }
        assert_eq!(blake3_of(&bytes), hex(one.finalize().as_bytes()));
    }

    #[test]
    fn the_fingerprint_depends_on_where_tokens_end() {
        let of = |tokens: &[&[u8]]| fingerprint(tokens.iter().copied());
        assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"ab", b"c", b""]));
        // Length 1 and 'a', spelled out.
        assert_eq!(of(&[b"a"]), blake3_of(&[1, 0, 0, 0, b'a']));
    }
}
