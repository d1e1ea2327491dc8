//! The statements that SQLite says in another way; the numbers of their parameters are the same.

/// Not `now()`, which is when the transaction began: that may be long ago when it had to wait.
pub(super) const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000)::bigint as now";

/// The row of a job that is about to be changed: it is nobody else's until the transaction ends.
pub(super) const LOCK_JOB: &str = concat!(
    "select ",
    job_columns!(),
    " from jobs where id = $1 for update"
);

/// The queue's one row: whoever claims has it until its transaction ends, and the next one waits.
pub(super) const HOLD_QUEUE: &str = "select paused from queue where id = 1 for update";

/// A worker's row: it stays as it is until the transaction ends.
pub(super) const HOLD_WORKER: &str = "select draining from workers where id = $1 for share";

pub(super) const LIST_JOBS: &str = concat!(
    "select ",
    job_columns!(),
    " from jobs \
where ($1 is null or id < $1) \
and ($2 is null or state = any(array(select json_array_elements_text($2::json)))) \
and ($3 is null or model_id = $3) \
and ($4 is null or method = $4) \
and ($5 is null or created_at >= $5) \
and ($6 is null or created_at < $6) \
and ($7 is null or type = any(array(select json_array_elements_text($7::json)))) \
and ($8 is null or submitter = $8) \
order by id desc limit $9"
);

pub(super) const LIST_DELETED: &str = "\
select id from deleted_jobs \
where id = any(array(select json_array_elements_text($1::json)))";

pub(super) const LIST_STANDINGS: &str = "\
select id, state, attempt from jobs \
where id = any(array(select json_array_elements_text($1::json)))";

/// The message that is due for longest. Attempts are counted here, so that one which is never heard of counts too.
/// One that another server is just taking is passed over.
pub(super) const CLAIM_DELIVERY: &str = "\
update webhook_deliveries set claims = claims + 1, attempts = attempts + 1, claimed_until = $2 \
where seq = (select due.seq from webhook_deliveries as due join webhooks on webhooks.id = due.webhook_id \
where due.state = 'pending' and due.next_attempt_at <= $1 \
and (due.claimed_until is null or due.claimed_until <= $1) and webhooks.disabled_at is null \
and (select count(*) from webhook_deliveries as busy \
where busy.webhook_id = due.webhook_id and busy.claimed_until > $1) < $3 \
order by due.next_attempt_at, due.seq limit 1 for update of due skip locked) \
returning seq, webhook_id, message_id, payload, attempts, claims";
