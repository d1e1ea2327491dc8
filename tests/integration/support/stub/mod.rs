//! A stand-in for the child that runs an attempt: a script that does what the name of the model says.

use std::fs;
use std::path::Path;

use crate::support::processes::{Process, Site};

/// A model that only tells the stub what to do.
pub(crate) fn stub_model(dir: &Path, name: &str) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/config.json");
    let model = dir.join("models").join(name);
    fs::create_dir_all(&model).unwrap();
    fs::copy(config, model.join("config.json")).unwrap();
}

/// A real worker whose attempts are run by the stub. The worker notes at its start where its program lies; what lies
/// there afterwards is what it runs.
pub(crate) fn stubbed_worker(site: &Site, name: &str) -> (Process, String) {
    let program = site.path(format!("{name}/secateur"));
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let real = Path::new(env!("CARGO_BIN_EXE_secateur"));
    if fs::hard_link(real, &program).is_err() {
        fs::copy(real, &program).unwrap();
    }
    let (worker, id) = site.clone().of(&program).announced_worker();
    let stubs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support/stub");
    for name in ["child.sh", "manifest.json", "evaluation.json"] {
        fs::copy(stubs.join(name), program.with_file_name(name)).unwrap();
    }
    fs::rename(program.with_file_name("child.sh"), program).unwrap();
    (worker, id)
}
