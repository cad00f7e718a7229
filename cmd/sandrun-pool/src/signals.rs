//! SIGINT and SIGTERM. Owns how a command hears that it is to end, and the status that it ends with then.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Status;

/// The signals from the moment on that this is made: what comes while nobody waits is found by the next wait.
#[derive(Debug)]
pub(crate) struct Signals(Option<Watched>);

#[derive(Debug)]
struct Watched {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Watches them; until now they did what they always do.
    pub(crate) fn watch() -> Self {
        let watched = signal(SignalKind::terminate()).and_then(|terminate| {
            let interrupt = signal(SignalKind::interrupt())?;
            Ok(Watched { terminate, interrupt })
        });
        if let Err(error) = &watched {
            tracing::error!(%error, "signals cannot be watched");
        }
        Self(watched.ok())
    }

    /// Waits for one, and says what the program ends with then.
    pub(crate) async fn asked(&mut self) -> Status {
        let Some(watched) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = watched.terminate.recv() => Status::Terminated,
            _ = watched.interrupt.recv() => Status::Interrupted,
        }
    }
}

/// Ends when a service is asked to end.
pub(crate) async fn shutdown() {
    Signals::watch().asked().await;
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Number, raise};

    use super::*;

    #[tokio::test]
    async fn a_signal_between_two_waits_is_not_lost() {
        let mut signals = Signals::watch();
        let nothing = std::future::ready(());
        tokio::select! {
            biased;
            () = nothing => {}
            status = signals.asked() => panic!("{status:?}"),
        }
        raise(Number::SIGTERM).unwrap();
        let asked = tokio::time::timeout(std::time::Duration::from_secs(20), signals.asked());
        assert_eq!(asked.await.unwrap(), Status::Terminated);
        assert_eq!(Status::Terminated.code(), 143);
    }
}
