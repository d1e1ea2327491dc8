//! Where the times in the database come from.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

/// The clock of a store.
///
/// Leases are compared by one clock, whatever the clocks of the workers say: that of the database. It is read once in
/// each transaction. SQLite has no server, so its clock is the machine's; all processes on one file share it.
#[derive(Clone, Default)]
pub enum Time {
    /// The database is asked.
    #[default]
    Database,
    /// Tests set it.
    Given(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "Database",
            Self::Given(_) => "Given",
        })
    }
}
