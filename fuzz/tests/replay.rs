//! Every target on stable Rust: its seeds, what was kept of attacks, and for some seconds changes
//! to them. No input may panic, or take more than [`bounds`].
//!
//! HYBRID_FUZZ_SECONDS: how long each target is attacked, 5 by default.
//! HYBRID_FUZZ_INPUTS: a folder of further inputs, for the one target that is chosen by name.

use std::path::Path;
use std::time::{Duration, Instant};

use hybrid_fuzz::bounds::{self, Taken};
use hybrid_fuzz::mutate::{Random, mutate};
use hybrid_fuzz::{TARGETS, Target, corpus, target};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

macro_rules! replay {
    ($($test:ident $name:literal)*) => {
        $(
            #[test]
            fn $test() {
                replay(target($name).unwrap());
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

replay! {
    manifest "manifest"
    tokenizer "tokenizer"
    template "template"
    graph "graph"
    weights "weights"
    head "head"
    gguf_header "gguf-header"
    gguf_tensors "gguf-tensors"
    export "export"
    state "state"
    corrections "corrections"
    consult "consult"
    probe "probe"
    addresses "addresses"
    prompt "prompt"
    calls "calls"
}

fn replay(target: &Target) {
    let mut inputs = (target.seeds)();
    inputs.extend(corpus::kept(target).unwrap().into_iter().map(|(_, input)| input));
    if let Some(folder) = std::env::var_os("HYBRID_FUZZ_INPUTS") {
        inputs.extend(corpus::files(Path::new(&folder)).unwrap().into_iter().map(|(_, i)| i));
    }
    // What is set up but once.
    (target.run)(&inputs[0]);
    let mut worst = Taken { time: Duration::ZERO, bytes: 0 };
    for input in &inputs {
        check(target, input, &mut worst);
    }
    let seconds = std::env::var("HYBRID_FUZZ_SECONDS").map_or(5, |text| text.parse().unwrap());
    let (begun, mut random, mut count) = (Instant::now(), Random::new(1), inputs.len());
    while begun.elapsed() < Duration::from_secs(seconds) {
        check(target, &mutate(target, &inputs, &mut random), &mut worst);
        count += 1;
    }
    println!("{}: {count} inputs; the worst took {worst:?}", target.name);
}

/// Names the input if it does harm: panics end the test, so it is written before.
fn check(target: &Target, input: &[u8], worst: &mut Taken) {
    let shown = Shown(target, input);
    let taken = Taken::by(&HEAP, || (target.run)(input));
    assert!(
        !taken.is_too_much(),
        "{taken:?}, more than {:?} or {} bytes",
        bounds::TIME,
        bounds::BYTES
    );
    std::mem::forget(shown);
    worst.time = worst.time.max(taken.time);
    worst.bytes = worst.bytes.max(taken.bytes);
}

/// Dropped in a panic, it keeps the input.
struct Shown<'a>(&'a Target, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let number = number_of(self.1);
        let path = std::env::temp_dir().join(format!("hybrid-fuzz-{}-{number:016x}", self.0.name));
        match std::fs::write(&path, self.1) {
            Ok(()) => eprintln!("the input is in {}", path.display()),
            Err(error) => eprintln!("the input cannot be written: {error}"),
        }
    }
}

/// Tells inputs apart.
fn number_of(input: &[u8]) -> u64 {
    input.iter().fold(14_695_981_039_346_656_037, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211)
    })
}
