//! Reading the public data sets as they lie in a data directory.
//!
//! They lie beside the repository, in `../shared/data`, and are not part of it: see `engine/reference.rs`.

use std::collections::BTreeMap;

use secateur::datasets::{DataRoots, Place, SplitRows};
use secateur::domain::HubReach;
use secateur::tasks::Task;

use crate::engine::reference::reference_dir;

/// The rows that the public data sets have; tasks with other splits are left out.
const ROWS: [(&str, usize); 10] = [
    ("boolq", 3270),
    ("rte", 277),
    ("hellaswag", 10_042),
    ("winogrande", 1267),
    ("arc_easy", 2376),
    ("arc_challenge", 1172),
    ("openbookqa", 500),
    ("piqa", 1838),
    ("lambada_openai", 5153),
    ("wikitext", 4358),
];

#[test]
fn every_split_of_the_tasks_is_found_and_read_to_its_end() {
    let Some(reference) = reference_dir() else {
        return;
    };
    let roots = DataRoots {
        data_dir: Some(reference.parent().unwrap().join("data")),
        bundled_dir: reference.clone(),
        hub: HubReach::Offline {
            cache_dir: reference.join("no-cache"),
        },
    };
    let read = |task: &Task, limit| {
        let Place::File(path) = roots.locate_split(&task.split).unwrap() else {
            panic!("{} is not local", task.name);
        };
        SplitRows::read(&[path], limit).unwrap()
    };
    let n_rows = ROWS.map(|(name, _)| {
        let task = Task::find(name).unwrap();
        let (all, some) = (read(task, None), read(task, Some(100)));
        assert_eq!(all.rows.len(), all.n_rows, "{name}");
        assert_eq!(some.rows, all.rows[..100], "{name}");
        assert_eq!((some.n_rows, some.sha256), (all.n_rows, all.sha256));
        (name, all.n_rows)
    });
    assert_eq!(BTreeMap::from(n_rows), BTreeMap::from(ROWS));
}
