//! Passes over a row of logits. NaN counts as minus infinity throughout.
//!
//! Not to be inlined: the callers are built for size, and would make these loops slow ones.

/// As many of the largest logits as [`top`] finds.
pub const TOP: usize = 8;
/// Values worked on together, so that one comparison skips a chunk without a top logit.
const CHUNK: usize = 64;
/// Independent maxima, so that the comparisons do not wait for each other.
const LANES: usize = 16;

/// The largest logit and its lowest index; `None` when there is none over minus infinity.
#[inline(never)]
pub fn argmax(logits: &[f32]) -> Option<(usize, f32)> {
    let max = max(logits);
    let index = logits.iter().position(|&logit| logit == max)?;
    (max > f32::NEG_INFINITY).then_some((index, max))
}

/// The largest logits, descending, padded with -inf.
#[inline(never)]
pub fn top(logits: &[f32]) -> [f32; TOP] {
    let mut top = [f32::NEG_INFINITY; TOP];
    for chunk in logits.chunks(CHUNK) {
        if max(chunk) > top[TOP - 1] {
            for &logit in chunk {
                insert(&mut top, logit);
            }
        }
    }
    top
}

#[inline(always)]
fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            // Not f32::max: this compiles to the one instruction, and a NaN never wins.
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

fn insert(top: &mut [f32; TOP], value: f32) {
    if value > top[TOP - 1] {
        let at = top.iter().position(|&t| value > t).unwrap_or(TOP - 1);
        top[at..].rotate_right(1);
        top[at] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f32 = f32::INFINITY;

    #[test]
    fn largest_and_its_lowest_index() {
        let mut long = vec![-1.0; 1000];
        long[517] = 3.0;
        long[998] = 3.0;
        let rows: [(&[f32], _); 7] = [
            (&[], None),
            (&[-INF, f32::NAN], None),
            (&[f32::NAN, -2.0], Some((1, -2.0))),
            (&[1.0, 5.0, 5.0], Some((1, 5.0))),
            (&[-0.0, 0.0], Some((0, 0.0))),
            (&[INF, 1.0], Some((0, INF))),
            (&long, Some((517, 3.0))),
        ];
        for (logits, want) in rows {
            assert_eq!(argmax(logits), want, "{:?}", &logits[..logits.len().min(4)]);
        }
    }

    #[test]
    fn top_is_the_head_of_a_sorted_row() {
        for n in [0, 1, 7, 8, 9, 63, 64, 65, 1000] {
            let mut logits: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32).collect();
            let got = top(&logits);
            logits.sort_by(|a, b| b.total_cmp(a));
            logits.resize(TOP.max(n), -INF);
            assert_eq!(got, logits[..TOP], "{n}");
        }
        assert_eq!(top(&[f32::NAN, 1.0, -INF])[..2], [1.0, -INF]);
    }
}
