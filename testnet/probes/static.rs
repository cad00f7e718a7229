// Threads of a static Rust program that race for a channel; hash maps, time, addresses.
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

static COUNTER: AtomicU64 = AtomicU64::new(0);

fn main() {
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..8)
        .map(|name| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for step in 0..100_u64 {
                    let seen = COUNTER.fetch_add(1, Ordering::Relaxed);
                    if step % 25 == 0 {
                        std::thread::sleep(Duration::from_micros(seen % 97));
                        let _ = sender.send((name, seen));
                    }
                }
            })
        })
        .collect();
    drop(sender);
    println!("{:?}", receiver.iter().collect::<Vec<(u32, u64)>>());
    for thread in threads {
        let _ = thread.join();
    }
    let map: HashMap<u32, &str> = (0..12).map(|n| (n, "x")).collect();
    println!("{:?}", map.keys().collect::<Vec<_>>());
    let boxed = Box::new(1);
    println!("{boxed:p} {:?} {:?}", &raw const COUNTER, SystemTime::now());
    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    println!("{:?} {} {:?}", started.elapsed(), std::process::id(), std::thread::available_parallelism());
    let child = std::process::Command::new("/bin/sh").args(["-c", "echo $$; date"]).output();
    println!("{child:?}");
}
