//! The directories of this machine that no client hears of.

use crate::domain::attempt::AttemptSpec;
use crate::domain::redact::HiddenDirs;
use crate::pipeline::hub::cache_dirs;

/// Every directory that an error or the log of an attempt may name.
pub fn hidden_dirs(attempt: &AttemptSpec) -> HiddenDirs {
    let configured = [
        (Some(&attempt.scratch), "the job's directory"),
        (attempt.models_dir.as_ref(), "the models directory"),
        (attempt.data_dir.as_ref(), "the data directory"),
        (Some(&attempt.bundled_dir), "the bundled files"),
        (Some(&attempt.scores_dir), "the kept scores"),
    ];
    let cache_dirs = cache_dirs();
    let artifacts = attempt.job_artifacts.values();
    let configured = configured
        .into_iter()
        .filter_map(|(dir, called)| Some((dir?, called)))
        .chain(artifacts.map(|dir| (dir, "the job's artifact")));
    let cached = cache_dirs.iter().map(|dir| (dir, "the cache"));
    configured
        .chain(cached)
        .fold(HiddenDirs::default(), |dirs, (dir, called)| {
            let dirs = dirs.with(dir, called);
            // Models are named by where symbolic links lead.
            match dir.canonicalize() {
                Ok(real) => dirs.with(&real, called),
                Err(_) => dirs,
            }
        })
}
