//! Servers of the outside world, played on this machine: the hub, a bucket, a receiver of webhooks.

pub(crate) mod mock_hub;
pub(crate) mod s3_server;
pub(crate) mod webhook_receiver;
