//! A database and its artifact store belong together: both hold the same id, or the start is refused.

use anyhow::bail;

use crate::artifacts::ArtifactStore;
use crate::store::Store;

/// Pairs a new database with its artifact store, and refuses any other store from then on.
pub(super) async fn pair(
    store: &dyn Store,
    artifacts: &dyn ArtifactStore,
    place: &str,
) -> anyhow::Result<()> {
    let proposed = uuid::Uuid::now_v7().simple().to_string();
    let known = store.store_id(&proposed).await?;
    match artifacts.store_id().await? {
        Some(found) if found == known.id && known.is_paired => Ok(()),
        // Also a database that was lost, or was interrupted here.
        Some(found) if found == known.id || !known.is_paired => Ok(store.pair(&found).await?),
        None if !known.is_paired => {
            artifacts.set_store_id(&known.id).await?;
            Ok(store.pair(&known.id).await?)
        }
        Some(found) => bail!(
            "the artifact store {place} belongs to another database: its store id is {found}, that of this database is \
             {}; all processes of a database need the same artifacts",
            known.id
        ),
        None => bail!(
            "the artifact store {place} does not belong to this database, whose artifacts are elsewhere; all processes of \
             a database need the same artifacts. If they were moved here, write {} into the file store-id there",
            known.id
        ),
    }
}
