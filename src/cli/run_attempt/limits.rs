//! What the process of an attempt may take of its machine: it reads files of unknown origin.

use std::fs;
use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::complain;

/// How much sooner than its worker the process is killed when memory runs out, of 1000.
const OOM_SCORE: &str = "500";

/// Address space for each byte of memory: the allocator keeps more of it than it fills.
const ADDRESS_SPACE: u64 = 2;

/// Confines this process. What the system does not permit is told, and the work goes on.
pub(super) fn confine(memory_bytes: Option<u64>) {
    let limit = |resource, bytes| {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        setrlimit(resource, limit).map_err(io::Error::from)
    };
    let memory = memory_bytes.map_or(Ok(()), |bytes| {
        limit(Resource::Data, bytes.saturating_mul(ADDRESS_SPACE))
    });
    for (what, done) in [
        ("the memory", memory),
        ("core files", limit(Resource::Core, 0)),
        (
            "the order of killing",
            fs::write("/proc/self/oom_score_adj", OOM_SCORE),
        ),
        // The last: it takes the files above away from this user. A token is in the memory of this process.
        (
            "access by other processes",
            set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from),
        ),
    ] {
        if let Err(error) = done {
            complain(&format!("cannot limit {what}: {error}"));
        }
    }
}
