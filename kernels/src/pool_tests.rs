//! The pool: every item once, whatever the machine and the jobs do.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use super::*;

/// How often each item was handed out.
fn counts(pool: &Pool, items: usize, grain: usize) -> Vec<usize> {
    let seen: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
    let inside: Vec<AtomicBool> = (0..pool.threads()).map(|_| AtomicBool::new(false)).collect();
    pool.run(items, grain, &|thread, range: Range<usize>| {
        assert!(!inside[thread].swap(true, SeqCst), "two calls at once as thread {thread}");
        assert!(range.len() >= grain.min(items) || range.end == items, "{range:?}");
        range.for_each(|item| _ = seen[item].fetch_add(1, Relaxed));
        inside[thread].store(false, SeqCst);
    });
    seen.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_item_is_handed_out_once() {
    for threads in [0, 1, 2, 3, 8, Pool::MAX_THREADS] {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads.max(1));
        for items in [0, 1, 2, 7, 64, 1000] {
            for grain in [0, 1, 3, 100, 5000] {
                assert_eq!(
                    counts(&pool, items, grain),
                    vec![1; items],
                    "{threads} {items} {grain}"
                );
            }
        }
    }
}

#[test]
fn many_tiny_jobs_follow_each_other() {
    for threads in [2, 3, 8] {
        let pool = Pool::new(threads).unwrap();
        let sum = AtomicU64::new(0);
        for job in 0..20_000 {
            pool.run(4, 1, &|_, range: Range<usize>| {
                sum.fetch_add(range.len() as u64, Relaxed);
            });
            // Now and then long enough that the workers sleep.
            if job % 5_000 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(sum.into_inner(), 80_000);
    }
}

/// More threads than cores, and on every core somebody who never sleeps.
#[test]
fn a_busy_machine_only_makes_it_slow() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let pool = Pool::new(4 * cores + 1).unwrap();
        let start = Instant::now();
        for _ in 0..300 {
            assert_eq!(counts(&pool, 200, 1), [1; 200]);
        }
        stop.store(true, Relaxed);
        // Alone it takes some milliseconds. The limit is only there to tell slow from stuck.
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    });
}

#[test]
fn workers_help() {
    let pool = Pool::new(3).unwrap();
    let helped: [AtomicUsize; 3] = Default::default();
    // On a busy machine it may take a while until every worker gets a core.
    let limit = Instant::now() + Duration::from_secs(60);
    while helped.iter().any(|count| count.load(Relaxed) == 0) {
        assert!(Instant::now() < limit, "{helped:?}");
        pool.run(30, 1, &|thread, _| {
            thread::sleep(Duration::from_micros(50));
            helped[thread].fetch_add(1, Relaxed);
        });
    }
}

#[test]
fn a_call_within_a_call_works_alone() {
    let pool = Pool::new(3).unwrap();
    for _ in 0..500 {
        pool.run(6, 1, &|_, outer: Range<usize>| {
            let all = Mutex::new(Vec::new());
            pool.run(5, 1, &|thread, inner: Range<usize>| {
                all.lock().unwrap().push((thread, inner));
            });
            assert_eq!(all.into_inner().unwrap(), [(0, 0..5)], "in {outer:?}");
        });
    }
}

/// Who finds the workers taken works alone; its calls within the call may find them free.
#[test]
fn callers_at_the_same_time_do_not_wait_for_each_other() {
    let pool = Pool::new(3).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..500 {
                    pool.run(6, 1, &|_, _| assert_eq!(counts(&pool, 5, 1), [1; 5]));
                    assert_eq!(counts(&pool, 40, 1), [1; 40]);
                }
            });
        }
    });
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    let pool = Pool::new(4).unwrap();
    for round in 0..200 {
        let job = |_, range: Range<usize>| {
            if range.contains(&(round % 40)) {
                std::panic::panic_any(round);
            }
        };
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(40, 1, &job)));
        assert_eq!(*caught.unwrap_err().downcast::<usize>().unwrap(), round);
        assert_eq!(counts(&pool, 40, 1), [1; 40]);
    }
}

#[test]
fn too_many_threads_are_refused() {
    let error = Pool::new(Pool::MAX_THREADS + 1).err().map(|e| e.to_string());
    assert_eq!(error.as_deref(), Some("threads is 65, but must be 0 to 64"));
}
