//! Files of jobs that the database does not know.
//!
//! Most likely it is the wrong database: lost, restored, or another one by mistake. So a mark is put beside the files
//! when that is first seen, and they are removed only when it has stood there for long.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

/// Its time is when the job was first found to be unknown.
const MARK: &str = "unknown-since";

/// How long the files of an unknown job are kept.
pub(super) const GRACE: Duration = Duration::from_hours(7 * 24);

/// Whether the job whose directory this is has been unknown for longer than [`GRACE`]. The first call sets the mark.
pub(super) fn is_over(directory: &Path, now: Timestamp) -> io::Result<bool> {
    let mark = directory.join(MARK);
    match fs::metadata(&mark) {
        Ok(metadata) => {
            let since = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
            Ok(is_past(since, now))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::create(mark)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether what began then has lasted for longer than [`GRACE`].
pub(super) fn is_past(since: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(since)).is_ok_and(|age| age > GRACE)
}

/// Takes the mark away: the job is known, or its files are gone.
pub(super) fn end(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(MARK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn the_grace_begins_when_a_job_is_first_unknown_and_again_after_it_was_known() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let late = now + GRACE + Duration::from_mins(1);
        assert!(!is_over(directory.path(), late).unwrap(), "first seen");
        assert!(!is_over(directory.path(), now).unwrap());
        assert!(is_over(directory.path(), late).unwrap());
        end(directory.path()).unwrap();
        end(directory.path()).unwrap();
        assert!(!is_over(directory.path(), late).unwrap(), "seen anew");
    }
}
