//! How fast the kernels of this CPU are, for weights and a cache that lie in the CPU's caches.
//!
//!     cargo bench --bench kernels -- [FILTER]
//!
//! `scripts/bench` measures whole models, `scripts/bench-arm` counts what other CPUs execute.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hybrid_kernels::{Format, Kernels};

mod cases;

fn kernels(criterion: &mut Criterion) {
    let matmuls =
        Format::ALL.iter().flat_map(|f| [1, 16].map(|rows| format!("{}-{rows}", f.name())));
    let others =
        ["attention-32", "attention-256", "attention-2000", "quantise", "norm", "swiglu", "exp"];
    let names: Vec<String> = matmuls.chain(others.map(str::to_owned)).collect();
    for kernels in Kernels::available() {
        let mut group = criterion.benchmark_group(kernels.name());
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        for name in &names {
            let mut case = cases::case(kernels, name);
            group.throughput(Throughput::Elements(case.work as u64));
            group.bench_function(name, |bencher| bencher.iter(&mut case.run));
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
