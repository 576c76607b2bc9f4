//! Base64 (RFC 4648, 4): of headers and pins, and of the key that signs bundles.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Padded. The text is never moved, so that it can be wiped.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let sextet = (bits >> (18 - 6 * n)) as usize & 63;
            text.push(if n <= three.len() { ALPHABET[sextet].into() } else { '=' });
        }
    }
    text
}

/// Exactly `N` bytes, of a text without padding.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut all = [0; N];
    let mut bytes = all.iter_mut();
    let (mut held, mut bits) = (0_u32, 0);
    for digit in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        held = held << 6 | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *bytes.next()? = (held >> bits) as u8;
            held &= (1 << bits) - 1;
        }
    }
    // No bits beside those of the bytes: a value has one text.
    (bytes.next().is_none() && held == 0 && bits < 6).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_rfc_4648() {
        let rows = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in rows {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
        assert_eq!(encode(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn what_is_decoded_was_encode() {
        for first in 0..=255_u8 {
            let bytes = [first, first.wrapping_mul(31), 255 - first, first ^ 85];
            assert_eq!(decode(encode(&bytes).trim_end_matches('=')), Some(bytes));
        }
        assert_eq!(decode("Zm9v"), Some(*b"foo"));
        for wrong in ["", "Zm9", "Zm9vY", "Zm9vYg", "Zm9v=", "Zm9-", "Zm 9v", "Zm9é"] {
            assert_eq!(decode::<3>(wrong), None, "{wrong}");
        }
        // Bits beside those of the byte.
        assert_eq!(
            (decode::<1>("Zg"), decode::<1>("Zh"), decode::<1>("Zgg")),
            (Some(*b"f"), None, None)
        );
    }
}
