//! Threads that keep processors busy. Owns their start and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// So many busy threads, until it is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts them.
    ///
    /// # Errors
    /// No further thread can be started.
    pub(crate) fn start(threads: u32) -> std::io::Result<Self> {
        let mut load = Self {
            ends: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..threads {
            let ends = Arc::clone(&load.ends);
            let thread = std::thread::Builder::new()
                .name("load".to_owned())
                .spawn(move || {
                    while !ends.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })?;
            load.threads.push(thread);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // it cannot panic
            let _ = thread.join();
        }
    }
}
