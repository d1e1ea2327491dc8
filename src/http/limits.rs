//! What a client may take of a request.

use std::time::Duration;

/// The limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time until the body of a request is read, and until its answer begins. The body of a download may take longer.
    pub request: Duration,
    /// How long a stream of events is silent before it says that it lives.
    pub heartbeat: Duration,
    /// Streams and held answers at the same time: the other connections are for everything else.
    pub held: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(15),
            heartbeat: Duration::from_secs(15),
            held: 2048,
        }
    }
}
