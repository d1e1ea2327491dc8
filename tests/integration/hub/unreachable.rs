//! A hub that nobody can connect to.

use std::time::Duration;

use secateur::domain::ErrorCode;
use secateur::pipeline::hub::{HubModel, HubOptions};
use tempfile::TempDir;

use crate::hub::models::options;
use crate::support::servers::mock_hub::{MODEL, MockHub};

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_said_at_once_and_what_to_do() {
    let (hub, cache) = (MockHub::start().await, TempDir::new().unwrap());
    for (endpoint, reason) in [
        (
            "http://127.0.0.1:1",
            "the hub 127.0.0.1 cannot be reached: the connection is refused",
        ),
        (
            "http://hub.invalid",
            "the hub hub.invalid cannot be reached: its name is not known",
        ),
    ] {
        // The client library would try again for hours.
        let options = HubOptions {
            endpoint: Some(endpoint.to_owned()),
            retry_delay: Duration::from_hours(1),
            stall_timeout: Duration::from_hours(1),
            ..options(&hub, &cache)
        };
        let error = HubModel::resolve(MODEL, "main", &options)
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::HubUnavailable);
        assert!(error.is_outage(), "no attempt is spent");
        let line = error.to_string();
        for words in [
            reason,
            "name a local model",
            "HF_ENDPOINT",
            "HF_HUB_OFFLINE=1",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }
}
