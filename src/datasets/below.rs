//! Files that stay below their directory.

use std::io;
use std::path::{Path, PathBuf};

/// What a relative path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// A file below the directory.
    File(PathBuf),
    /// A file outside of it, over a symbolic link or `..`.
    Outside,
    /// No file.
    Absent,
}

/// Follows `relative` from `root`, symbolic links included. The path that is given back ends as `relative` does: the
/// ending tells how a file is read.
pub(super) fn look_below(root: &Path, relative: &str) -> Below {
    let path = root.join(relative);
    let resolved = || io::Result::Ok((path.canonicalize()?, root.canonicalize()?));
    match resolved() {
        Ok((file, _)) if !file.is_file() => Below::Absent,
        Ok((file, root)) if file.starts_with(&root) => Below::File(path),
        Ok(_) => Below::Outside,
        Err(_) => Below::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_within_the_directory_and_not_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        std::fs::create_dir_all(root.join("nested")).unwrap();
        std::fs::write(dir.path().join("secret.txt"), "x").unwrap();
        std::fs::write(root.join("nested/a.txt"), "x").unwrap();
        symlink(dir.path().join("secret.txt"), root.join("out.txt")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        symlink("nested/a.txt", root.join("within.txt")).unwrap();
        symlink("nowhere.txt", root.join("dangling.txt")).unwrap();
        for file in ["nested/a.txt", "within.txt"] {
            assert_eq!(look_below(&root, file), Below::File(root.join(file)));
        }
        let absolute = dir.path().join("secret.txt").display().to_string();
        for file in ["out.txt", "up/secret.txt", "../secret.txt", &absolute] {
            assert_eq!(look_below(&root, file), Below::Outside, "{file}");
        }
        for file in ["dangling.txt", "nested", "nothing.txt"] {
            assert_eq!(look_below(&root, file), Below::Absent, "{file}");
        }
    }

    #[test]
    fn the_directory_itself_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/a.txt"), "x").unwrap();
        let link = dir.path().join("link");
        symlink("real", &link).unwrap();
        assert_eq!(look_below(&link, "a.txt"), Below::File(link.join("a.txt")));
    }
}
