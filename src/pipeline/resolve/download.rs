//! Downloads, as the pipeline's own thread waits for them.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::domain::job::progress::Step;
use crate::engine::EngineError;
use crate::pipeline::{Listener, PipelineError};

/// How often a download looks whether it shall stop.
const STOP_INTERVAL: Duration = Duration::from_millis(200);

/// What the network needs to move.
pub(in crate::pipeline) fn runtime() -> Result<Runtime, PipelineError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| PipelineError::io("start", "the network runtime".as_ref(), source))
}

/// Waits for a download or an answer, tells the listener its steps, and drops it when the listener says so.
pub(in crate::pipeline) fn watched<T>(
    runtime: &Runtime,
    listener: &mut dyn Listener,
    download: impl AsyncFnOnce(&mut (dyn FnMut(Step) + Send)) -> T,
) -> Result<T, PipelineError> {
    // Steps pass through a channel: the download holds the sending end, the listener is asked between steps.
    let (sender, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let mut tell = |step: Step| drop(sender.send(step));
    runtime.block_on(async {
        let mut download = std::pin::pin!(download(&mut tell));
        let mut look = tokio::time::interval(STOP_INTERVAL);
        loop {
            tokio::select! {
                done = &mut download => return Ok(done),
                Some(step) = steps.recv() => listener.progress(step),
                _ = look.tick() => if listener.should_stop() {
                    return Err(EngineError::Stopped.into());
                },
            }
        }
    })
}
