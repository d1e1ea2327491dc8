//! How much the worker's machine holds for jobs, and may hold.

use super::SweepError;
use crate::domain::worker::UsedBytes;
use crate::instruments;
use crate::machine::used_bytes;
use crate::pipeline::hub::shrink_cache;
use crate::worker::context::Context;

/// Removes models from the cache of the hub where it is larger than it may be.
pub(super) async fn bound(context: &Context) -> Result<(), SweepError> {
    let Some(most) = context.settings.pool.hub_cache_bytes else {
        return Ok(());
    };
    let cache = context.settings.hub_cache.clone();
    let freed = tokio::task::spawn_blocking(move || shrink_cache(&cache, most));
    freed.await.map_err(std::io::Error::other)??;
    Ok(())
}

/// Measures it, and has the worker tell it.
pub(super) async fn measure(context: &Context) -> Result<(), SweepError> {
    let settings = context.settings.clone();
    let measured = tokio::task::spawn_blocking(move || UsedBytes {
        scratch: used_bytes(&settings.scratch_dir),
        scores: used_bytes(&settings.scores_dir),
        hub_cache: used_bytes(&settings.hub_cache),
    });
    let used = measured.await.map_err(std::io::Error::other)?;
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
