//! The table `idempotency_keys`.

use jiff::Timestamp;

use super::columns::{Columns, to_json};
use super::{Connection, Connections, Database, Reading, Writing, dialect, jobs};
use crate::domain::JobId;
use crate::domain::idempotency::{KeyedRequest, LIFETIME, Reply};
use crate::domain::job::Job;
use crate::store::{Answer, Earlier, Inserted, KeyStore, StoreError, StoreFuture, failed};

const LOOKUP: &str = "\
select fingerprint, reply from idempotency_keys where scope = $1 and key = $2 and expires_at > $3";

const TAKE: &str = "\
insert into idempotency_keys (scope, key, fingerprint, reply, expires_at) values ($1, $2, $3, $4, $5) \
on conflict (scope, key) do nothing";

const FORGET: &str =
    "delete from idempotency_keys where scope = $1 and key = $2 and expires_at <= $3";

const FORGET_EXPIRED: &str = "delete from idempotency_keys where expires_at <= $1";

impl KeyStore for Database {
    fn lookup_earlier<'a>(&'a self, request: &'a KeyedRequest) -> StoreFuture<'a, Option<Earlier>> {
        Connections::bounded(async move {
            let mut reading = Reading::begin(self).await?;
            let earlier = lookup(&mut reading.transaction, request, reading.now).await?;
            reading.end().await?;
            Ok(earlier)
        })
    }

    fn insert_job_once<'a>(
        &'a self,
        job: &'a Job,
        request: &'a KeyedRequest,
        answer: &'a Answer<'a>,
    ) -> StoreFuture<'a, Inserted> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let job = job.clone().accepted_at(writing.now);
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let inserted = insert_once(transaction, &job, Some(request), answer, now).await?;
            writing.commit("store a job").await?;
            Ok(inserted)
        })
    }

    fn insert_job_unless_equal<'a>(
        &'a self,
        job: &'a Job,
        request: Option<&'a KeyedRequest>,
        answer: &'a Answer<'a>,
    ) -> StoreFuture<'a, Inserted> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let job = job.clone().accepted_at(writing.now);
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let found = find_equal(transaction, &job, request, now).await?;
            let inserted = match found {
                Some(found) => found,
                None => insert_once(transaction, &job, request, answer, now).await?,
            };
            writing.commit("store a job").await?;
            Ok(inserted)
        })
    }

    fn lookup_equal<'a>(&'a self, fingerprint: &'a str) -> StoreFuture<'a, Option<JobId>> {
        Connections::bounded(async move {
            let mut reading = Reading::begin(self).await?;
            let found = jobs::find_equal(&mut reading.transaction, fingerprint).await?;
            reading.end().await?;
            Ok(found)
        })
    }

    fn forget_expired_keys(&self) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let done = sqlx::query(FORGET_EXPIRED)
                .bind(writing.now.as_millisecond())
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("forget keys"))?;
            writing.commit("forget keys").await?;
            Ok(done.rows_affected())
        })
    }
}

async fn insert_once(
    connection: &mut Connection,
    job: &Job,
    request: Option<&KeyedRequest>,
    answer: &Answer<'_>,
    now: Timestamp,
) -> Result<Inserted, StoreError> {
    let reply = answer(job);
    if let Some(request) = request
        && let Some(earlier) = take(connection, request, &reply, now).await?
    {
        return Ok(Inserted::Earlier(earlier));
    }
    jobs::insert(connection, job).await?;
    Ok(Inserted::New(reply))
}

/// Finds what makes the job needless: an earlier request with its key, or a job that does the same.
async fn find_equal(
    connection: &mut Connection,
    job: &Job,
    request: Option<&KeyedRequest>,
    now: Timestamp,
) -> Result<Option<Inserted>, StoreError> {
    let Some(fingerprint) = &job.fingerprint else {
        return Ok(None);
    };
    sqlx::query(dialect::LOCK_TEXT)
        .bind(fingerprint)
        .execute(&mut *connection)
        .await
        .map_err(failed("lock a fingerprint"))?;
    if let Some(request) = request
        && let Some(earlier) = lookup(connection, request, now).await?
    {
        return Ok(Some(Inserted::Earlier(earlier)));
    }
    let equal = jobs::find_equal(connection, fingerprint).await?;
    Ok(equal.map(Inserted::Equal))
}

async fn lookup(
    connection: &mut Connection,
    request: &KeyedRequest,
    now: Timestamp,
) -> Result<Option<Earlier>, StoreError> {
    let found = sqlx::query(LOOKUP)
        .bind(request.scope)
        .bind(request.key.as_str())
        .bind(now.as_millisecond())
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a key"))?;
    let Some(row) = found else { return Ok(None) };
    let columns = Columns::new(&row, "idempotency_keys");
    let fingerprint: String = columns.get("fingerprint")?;
    if fingerprint == request.fingerprint.to_string() {
        Ok(Some(Earlier::Same(columns.json("reply")?)))
    } else {
        Ok(Some(Earlier::Other))
    }
}

/// Takes the key for this request, or gives what the request before it was. Waits for a transaction that is taking it.
async fn take(
    connection: &mut Connection,
    request: &KeyedRequest,
    reply: &Reply,
    now: Timestamp,
) -> Result<Option<Earlier>, StoreError> {
    loop {
        sqlx::query(FORGET)
            .bind(request.scope)
            .bind(request.key.as_str())
            .bind(now.as_millisecond())
            .execute(&mut *connection)
            .await
            .map_err(failed("forget a key"))?;
        let taken = sqlx::query(TAKE)
            .bind(request.scope)
            .bind(request.key.as_str())
            .bind(request.fingerprint.to_string())
            .bind(to_json(reply))
            .bind((now + LIFETIME).as_millisecond())
            .execute(&mut *connection)
            .await
            .map_err(failed("store a key"))?;
        if taken.rows_affected() == 1 {
            return Ok(None);
        }
        // Nothing is found where the key expired between these two statements.
        if let Some(earlier) = lookup(connection, request, now).await? {
            return Ok(Some(earlier));
        }
    }
}
