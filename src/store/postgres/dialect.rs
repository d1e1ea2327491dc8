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

pub(super) const LIST_STATUSES: &str = "\
select id, state, attempt from jobs \
where id = any(array(select json_array_elements_text($1::json)))";

/// The webhook whose turn it is: of those that are sent to, have something due and less than their share under way, the one
/// with the least under way; of those, the one that has waited longest. It is nobody else's until the transaction ends; one
/// that another server is just taking from is passed over.
///
/// What it costs grows with the number of webhooks, and not with that of the messages.
pub(super) const PICK_WEBHOOK: &str = "\
with load as ( \
select id as webhook_id, ( \
select count(*) from webhook_deliveries as busy \
where busy.webhook_id = webhooks.id and busy.claimed_until > $1) as under_way, ( \
select due.next_attempt_at from webhook_deliveries as due \
where due.webhook_id = webhooks.id and due.state = 'pending' and due.next_attempt_at <= $1 \
and (due.claimed_until is null or due.claimed_until <= $1) \
order by due.next_attempt_at limit 1) as due_at \
from webhooks where disabled_at is null \
) \
select id, url, secret, previous_secret, previous_until from webhooks join load on webhook_id = id \
where disabled_at is null and under_way < $2 and due_at is not null \
order by under_way, due_at, id limit 1 \
for no key update of webhooks skip locked";
