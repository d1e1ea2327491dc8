//! The machine: its name, its memory, the space that is free and used, and private directories.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// The mode of a private directory.
const PRIVATE: u32 = 0o700;

/// The machine's name; empty where the system does not tell.
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Memory that all processes of this machine may take together: what it has, or the limit of this process' control
/// group if that is less. `None` where the system does not tell.
pub fn memory_bytes() -> Option<u64> {
    let machine = meminfo_bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")?;
    let group = ["memory.max", "memory/memory.limit_in_bytes"].map(|file| {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    });
    Some(group.into_iter().flatten().fold(machine, u64::min))
}

/// An entry of `/proc/meminfo`.
fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib = value.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
    Some(kib * 1024)
}

/// Creates a directory and its parents for their owner only. One that exists stays as it is.
pub fn create_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE).create(dir)
}

/// The same, and takes an existing directory away from other users.
pub fn make_private(dir: &Path) -> io::Result<()> {
    create_private(dir)?;
    if fs::metadata(dir)?.mode() & 0o077 != 0 {
        fs::set_permissions(dir, Permissions::from_mode(PRIVATE))?;
    }
    Ok(())
}

/// Bytes that this user may still write where `dir` lies or, as long as it does not exist, its nearest ancestor.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let dir = std::path::absolute(dir)?;
    for ancestor in dir.ancestors() {
        match rustix::fs::statvfs(ancestor) {
            Ok(stat) => return Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Bytes of all files below `dir`, links left out. What goes meanwhile or cannot be read is not counted.
pub fn used_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => used_bytes(&entry.path()),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_meminfo_is_found_by_its_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:       16316412 kB\nMemFree: 2 kB\n";
        assert_eq!(meminfo_bytes(text, "MemTotal"), Some(16_316_412 * 1024));
        assert_eq!(meminfo_bytes(text, "Swap"), None);
    }

    #[test]
    fn this_machine_has_a_name_and_memory() {
        assert!(!host_name().is_empty());
        assert!(memory_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn what_cannot_be_read_is_not_counted_and_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (own, closed) = (dir.path().join("own"), dir.path().join("closed"));
        fs::write(&own, [0; 5]).unwrap();
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), [0; 3]).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        // A superuser reads everything.
        let used = used_bytes(dir.path());
        fs::set_permissions(&closed, Permissions::from_mode(PRIVATE)).unwrap();
        assert!(matches!(used, 5 | 8), "{used}");
        assert_eq!(used_bytes(&own), 0, "it is no directory");
        assert_eq!(used_bytes(&dir.path().join("absent")), 0);
    }

    #[test]
    fn a_directory_that_does_not_exist_yet_has_the_space_of_its_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(&dir.path().join("a/b/c")).unwrap() > 0);
    }
}
