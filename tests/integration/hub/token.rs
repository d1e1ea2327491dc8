//! A token of the hub stays where it was put: in the requests, nowhere else.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use secateur::domain::HubToken;
use secateur::pipeline::hub::{HubModel, HubOptions};
use tempfile::TempDir;

use crate::hub::models::{WEIGHTS, options};
use crate::support::servers::mock_hub::{Fault, MODEL, MockHub};

/// Everything that is logged while it lives, at every level.
struct Captured(
    Arc<Mutex<Vec<u8>>>,
    #[expect(dead_code, reason = "ends with the test")] tracing::subscriber::DefaultGuard,
);

impl Captured {
    fn start() -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || Writer(Arc::clone(&writer)))
            .finish();
        Self(log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text of every file below a directory.
fn contents(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                return contents(&path);
            }
            String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned()
        })
        .collect()
}

#[tokio::test]
async fn the_token_appears_in_no_error_no_log_no_debug_text_and_no_file() {
    const CANARY: &str = "hf_canaryTokenThatNobodyMaySee";
    let log = Captured::start();
    let faults = [
        Fault::Status(403),
        Fault::Status(503),
        Fault::PageWithStatus200,
        Fault::Cut,
        Fault::WrongContent,
    ];
    let mut texts = Vec::new();
    for (fault, id, required) in faults.iter().flat_map(|fault| {
        [
            (*fault, MODEL, CANARY),
            (*fault, MODEL, "another"),
            (*fault, "org/other", CANARY),
        ]
    }) {
        let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
        hub.require_token(required);
        hub.fail_always(WEIGHTS, fault);
        let options = HubOptions {
            token: Some(HubToken::new(CANARY)),
            ..options(&hub, &cache)
        };
        texts.push(format!("{options:?}"));
        let error = match HubModel::resolve(id, "main", &options).await {
            Ok(model) => {
                texts.push(format!("{model:?}"));
                model.fetch(&mut |_| ()).await.unwrap_err()
            }
            Err(error) => error,
        };
        texts.push(format!("{error} {error:?}"));
        texts.push(contents(cache.path()));
    }
    texts.push(log.text());
    assert!(
        log.text().contains("fetching the file again"),
        "the log was captured"
    );
    for text in texts {
        assert!(!text.contains(CANARY), "{text}");
    }
}
