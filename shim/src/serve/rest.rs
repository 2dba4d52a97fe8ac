//! What a server gives back when it has been left in peace: a Create, and twenty execs at once, take memory that a pod which
//! sleeps for days has no use for, and which the allocator would keep. A server that is called all the time keeps it too,
//! and pays one timer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runtime_core::heap;
use tokio::sync::Notify;
use tokio::time::sleep;

/// The calls of one exec, and of many at once, come closer together than this.
const QUIET: Duration = Duration::from_millis(100);

/// Who is told that a client has sent something, or is sent an answer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest(Arc<Notify>);

impl Rest {
    /// A client has sent something, or is sent an answer: what was needed for it is freed then.
    pub(super) fn disturb(&self) {
        self.0.notify_one();
    }

    /// Gives back what is free each time that nothing has come or gone for a while.
    pub(super) async fn run(self) {
        loop {
            self.0.notified().await;
            self.undisturbed().await;
            heap::give_back();
        }
    }

    /// Waits until a while has gone by without anybody.
    async fn undisturbed(&self) {
        loop {
            sleep(QUIET).await;
            // Not awaited: it would have this task woken at each call.
            if !pin!(self.0.notified()).enable() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_while_begins_anew_with_whoever_comes() {
        let rest = Rest::default();
        let (end, last) = tokio::join!(
            async {
                rest.undisturbed().await;
                Instant::now()
            },
            async {
                for _ in 0..3 {
                    sleep(QUIET / 2).await;
                    rest.disturb();
                }
                Instant::now()
            }
        );
        assert!(end >= last + QUIET, "after {:?}", end - last);
    }
}
