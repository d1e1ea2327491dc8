//! The tasks that can be run with the data sets that are available.

use super::missing::splits;
use super::{DataRoots, Place};
use crate::domain::task_info::{DocumentSource, TaskInfo};
use crate::tasks::Task;

impl DataRoots {
    /// Every declared task with the source of its documents.
    pub fn tasks(&self) -> Vec<TaskInfo> {
        Task::all().iter().map(|task| self.describe(task)).collect()
    }

    fn describe(&self, task: &Task) -> TaskInfo {
        let usual_shots = task.shots.first().copied().unwrap_or_default();
        let places = splits(task, usual_shots)
            .into_iter()
            .map(|split| self.locate_split(split));
        let places: Result<Vec<Place>, _> = places.collect();
        let documents = places.ok().map(|places| {
            if places.iter().all(|place| matches!(place, Place::File(_))) {
                DocumentSource::Local
            } else {
                DocumentSource::Hub
            }
        });
        TaskInfo {
            name: task.name.to_owned(),
            version: task.version.to_owned(),
            shots: task.shots.to_vec(),
            metrics: task
                .metrics
                .iter()
                .map(|metric| metric.name.to_owned())
                .collect(),
            unsupported: task.refusal().map(str::to_owned),
            documents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HubReach;

    #[test]
    fn a_task_says_where_its_documents_would_come_from() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("boolq");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("validation.jsonl"), "{}\n").unwrap();
        let mut roots = DataRoots {
            data_dir: Some(root.path().to_path_buf()),
            bundled_dir: root.path().to_path_buf(),
            hub: HubReach::Offline {
                cache_dir: root.path().join("cache"),
            },
        };
        let documents = |roots: &DataRoots, name: &str| {
            let mut tasks = roots.tasks().into_iter();
            tasks.find(|task| task.name == name).unwrap().documents
        };
        assert_eq!(documents(&roots, "boolq"), Some(DocumentSource::Local));
        assert_eq!(documents(&roots, "rte"), None);
        roots.hub = HubReach::Online;
        assert_eq!(documents(&roots, "rte"), Some(DocumentSource::Hub));
        // Its worked examples are another file, which is usually needed.
        let gsm8k = root.path().join("gsm8k");
        std::fs::create_dir(&gsm8k).unwrap();
        std::fs::write(gsm8k.join("test.jsonl"), "{}\n").unwrap();
        assert_eq!(documents(&roots, "gsm8k"), Some(DocumentSource::Hub));
    }

    #[test]
    fn a_task_that_cannot_be_run_says_why() {
        let root = tempfile::tempdir().unwrap();
        let roots = DataRoots {
            data_dir: None,
            bundled_dir: root.path().to_path_buf(),
            hub: HubReach::Online,
        };
        let refused: Vec<_> = roots
            .tasks()
            .into_iter()
            .filter(|task| task.unsupported.is_some())
            .map(|task| task.name)
            .collect();
        assert_eq!(refused, ["humaneval"]);
    }
}
