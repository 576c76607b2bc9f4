//! Little-endian reading that never goes past the end.

use anyhow::{Context, Result, bail};

/// What an end inside of something means for the user.
pub const TOO_SHORT: &str = "the file is truncated or damaged; download or copy it again";

pub struct Cursor<'a> {
    file: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(file: &'a [u8]) -> Self {
        Cursor { file, position: 0 }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn remaining(&self) -> usize {
        self.file.len() - self.position
    }

    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let taken = self.position.checked_add(bytes).and_then(|end| {
            let range = self.position..end;
            self.position = end.min(self.file.len());
            self.file.get(range)
        });
        match taken {
            Some(taken) => Ok(taken),
            None => bail!("it goes on after the end: {TOO_SHORT}"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn f32(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A length of 64 bits and as many bytes of UTF-8.
    pub fn string(&mut self) -> Result<&'a str> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        std::str::from_utf8(self.take(length)?).context("a string is not UTF-8")
    }
}
