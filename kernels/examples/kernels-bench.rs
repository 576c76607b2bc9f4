//! One kernel, run again and again, for counting its instructions from outside.
//!
//!     kernels-bench                         the tables of this CPU, best first
//!     kernels-bench TABLE KERNEL REPEATS    prints what one run computes: multiply-adds or values
//!
//! KERNEL: see `cases::case`. Setting up costs the same for any number of repeats.

use hybrid_kernels::Kernels;

#[path = "../../benches/kernels/cases.rs"]
mod cases;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [table, kernel, repeats] = args.as_slice() else {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        println!("{}", names.join(" "));
        return;
    };
    let kernels = Kernels::by_name(table).expect("a table of this CPU");
    let mut case = cases::case(kernels, kernel);
    for _ in 0..repeats.parse().expect("a number") {
        (case.run)();
    }
    println!("{}", case.work);
}
