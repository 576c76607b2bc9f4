//! Caches that come and go leave no memory behind. A program of its own, since the memory of other
//! tests would be counted too.

use hybrid_kernels::{AttentionShape, Cache, KvCache};

/// As one layer of a small model has it: 16 MiB.
const POSITIONS: usize = 8192;
/// Filled in every round.
const FILLED: usize = 512;

/// Bytes in memory now.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn caches_are_given_back() {
    let shape = AttentionShape::new(8, 8, 64).unwrap();
    let cache = || KvCache::new(shape, POSITIONS).unwrap();
    let whole = cache().bytes(POSITIONS);
    let bytes = vec![1; cache().bytes(FILLED)];
    let before = resident();
    for round in 0..8 {
        let mut layers = [cache(), cache(), cache()];
        let empty = resident() - before;
        assert!(empty < whole, "round {round}: {empty} bytes for caches that hold nothing");
        for layer in &mut layers {
            layer.read(FILLED, &bytes).unwrap();
        }
        let copies = layers.clone();
        let filled = resident() - before;
        assert!(filled < 2 * whole, "round {round}: {filled} bytes for a sixteenth of them");
        assert_eq!(copies[0].len(), FILLED);
        drop((layers, copies));
        let after = resident().saturating_sub(before);
        assert!(after < whole / 4, "round {round}: {after} bytes left behind");
    }
}
