//! Keeps the server's directories out of what clients read.

use std::path::Path;

/// Directories whose place is nobody's business outside of this machine.
#[derive(Debug, Clone, Default)]
pub struct HiddenDirs {
    /// Longest first: the inner one of two nested directories names a file best.
    dirs: Vec<(String, &'static str)>,
}

impl HiddenDirs {
    /// Adds a directory, and what it is called where it is named itself.
    #[must_use]
    pub fn with(mut self, dir: &Path, called: &'static str) -> Self {
        let text = dir.display().to_string();
        let text = text.trim_end_matches('/');
        if !text.is_empty() {
            self.dirs.push((text.to_owned(), called));
            self.dirs
                .sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        self
    }

    /// The text with paths below the directories made relative to them.
    pub fn hide(&self, text: &str) -> String {
        self.dirs
            .iter()
            .fold(text.to_owned(), |text, (dir, called)| {
                hide_one(&text, dir, called)
            })
    }
}

fn hide_one(text: &str, dir: &str, called: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(dir) {
        let (before, found) = rest.split_at(at);
        let after = &found[dir.len()..];
        hidden.push_str(before);
        // `/data` is neither a part of `/srv/data` nor of `/data2`.
        let begins = !hidden.ends_with(is_of_name) && !hidden.ends_with(['/', '.']);
        if begins && let Some(below) = after.strip_prefix('/') {
            rest = below;
        } else if begins && !after.starts_with(is_of_name) {
            hidden.push_str(called);
            rest = after;
        } else {
            hidden.push_str(dir);
            rest = after;
        }
    }
    hidden.push_str(rest);
    hidden
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_relative_and_directories_get_their_name() {
        let dirs = HiddenDirs::default()
            .with(Path::new("/srv"), "the home")
            .with(Path::new("/srv/models/"), "the models directory")
            .with(Path::new("/"), "the root");
        for (text, hidden) in [
            (
                "cannot read /srv/models/a/config.json: gone",
                "cannot read a/config.json: gone",
            ),
            ("\"/srv/models/a\" and /srv/b, (/srv/c)", "\"a\" and b, (c)"),
            (
                "5 bytes are needed in /srv/models, 3 are free",
                "5 bytes are needed in the models directory, 3 are free",
            ),
            ("nothing in /srv: gone", "nothing in the home: gone"),
            (
                "/srv2/x /data/srv/x /srv-old ../srv/x",
                "/srv2/x /data/srv/x /srv-old ../srv/x",
            ),
            ("no path", "no path"),
        ] {
            assert_eq!(dirs.hide(text), hidden);
        }
    }
}
