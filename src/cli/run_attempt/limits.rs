//! What the process of an attempt may take of its machine: it reads files of unknown origin.

use std::fs;
use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::complain;

/// `oom_score_adj`, -1000 to 1000: when memory runs out the kernel kills the attempt before its worker.
const OOM_SCORE_ADJ: &str = "500";

/// `RLIMIT_DATA` for each byte of memory: it counts what is mapped, and the allocator maps more than it fills.
const DATA_PER_BYTE: u64 = 2;

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
        limit(Resource::Data, bytes.saturating_mul(DATA_PER_BYTE))
    });
    for (what, done) in [
        ("RLIMIT_DATA", memory),
        ("RLIMIT_CORE", limit(Resource::Core, 0)),
        (
            "oom_score_adj",
            fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ),
        ),
        // The last: it takes the files above away from this user. A token is in the memory of this process.
        (
            "PR_SET_DUMPABLE",
            set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from),
        ),
    ] {
        if let Err(error) = done {
            complain(&format!("cannot set {what}: {error}"));
        }
    }
}
