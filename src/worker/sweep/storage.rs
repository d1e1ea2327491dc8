//! How much the worker's machine holds for jobs.

use super::SweepError;
use crate::domain::worker::UsedBytes;
use crate::instruments;
use crate::machine::used_bytes;
use crate::worker::context::Context;

/// Measures it, and has the worker tell it.
pub(super) async fn measure(context: &Context) -> Result<(), SweepError> {
    let settings = context.settings.clone();
    let measured = tokio::task::spawn_blocking(move || {
        Ok::<_, std::io::Error>(UsedBytes {
            scratch: used_bytes(&settings.scratch_dir)?,
            scores: used_bytes(&settings.scores_dir)?,
            hub_cache: used_bytes(&settings.hub_cache)?,
        })
    });
    let used = measured.await.map_err(std::io::Error::other)??;
    for (store, bytes) in [
        ("scratch", used.scratch),
        ("scores", used.scores),
        ("hub_cache", used.hub_cache),
    ] {
        metrics::gauge!(instruments::STORE_USED_BYTES, "store" => store).set(bytes as f64);
    }
    context.set_used(used);
    Ok(())
}
