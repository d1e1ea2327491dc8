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

/// Bytes of all files below `dir`, links left out. 0 where it does not exist; what goes meanwhile is not counted.
pub fn used_bytes(dir: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(found) if found.is_dir() => bytes += used_bytes(&entry.path())?,
            Ok(found) if found.is_file() => bytes += found.len(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
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
    fn a_directory_that_does_not_exist_yet_has_the_space_of_its_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(&dir.path().join("a/b/c")).unwrap() > 0);
    }
}
