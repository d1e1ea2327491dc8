//! The statements that every database understands. The ones that a worker writes with carry the whole fence: job,
//! attempt, owner, and a state in which somebody holds the job.

pub(super) const INSERT_JOB: &str = "\
insert into jobs (id, name, metadata, type, spec, model_id, method, state, attempt, failed_attempts, crash_count, \
max_attempts, run_after, created_at, updated_at, version, priority, submitter, device_kind, memory_bytes, \
deadline_after, deadline_at, queued_at, traceparent) \
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)";

pub(super) const LOOKUP_KEY: &str = "\
select fingerprint, reply from idempotency_keys where scope = $1 and key = $2 and expires_at > $3";

pub(super) const FORGET_KEY: &str =
    "delete from idempotency_keys where scope = $1 and key = $2 and expires_at <= $3";

pub(super) const FORGET_KEYS: &str = "delete from idempotency_keys where expires_at <= $1";

pub(super) const TAKE_KEY: &str = "\
insert into idempotency_keys (scope, key, fingerprint, reply, expires_at) values ($1, $2, $3, $4, $5) \
on conflict (scope, key) do nothing";

pub(super) const LOOKUP_JOB: &str = concat!("select ", job_columns!(), " from jobs where id = $1");

pub(super) const COUNT_QUEUED: &str = "\
select count(*) as jobs from (select 1 as one from jobs where state = 'queued' limit $1) as waiting";

pub(super) const FIND_USER: &str = "\
select id from jobs where state in ('queued', 'running', 'pausing', 'paused', 'cancelling') \
and id <> $1 and spec like '%' || $1 || '%' limit 1";

pub(super) const COUNT_JOBS: &str = "select state, count(*) as jobs from jobs group by state";

pub(super) const LIST_LEASES: &str = "\
select id, attempt, lease_owner, lease_expires_at, phase, failed_attempts, max_attempts from jobs \
where state in ('running', 'pausing', 'cancelling') order by id";

pub(super) const LIST_EVENTS: &str = "select seq, at, attempt, kind from events where job_id = $1 and seq > $2 order by seq limit $3";

/// Whoever takes a number keeps others from taking one until it commits: numbers become visible in their order.
pub(super) const NEXT_EVENT_NUMBER: &str =
    "update event_numbers set last = last + 1 where id = 1 returning last";

pub(super) const APPEND_EVENT: &str = "\
insert into events (job_id, seq, at, attempt, kind, number) \
values ($1, (select coalesce(max(seq), 0) + 1 from events where job_id = $1), $2, $3, $4, $5)";

pub(super) const LIST_ALL_EVENTS: &str = "\
select number, job_id, seq, at, attempt, kind from events where number > $1 order by number limit $2";

pub(super) const LAST_EVENT_NUMBER: &str = "select last from event_numbers where id = 1";

pub(super) const LIST_ATTEMPTS: &str = "\
select attempt, worker_id, device, started_at, finished_at, outcome, error from attempts where job_id = $1 order by attempt";

pub(super) const INSERT_ATTEMPT: &str = "insert into attempts (job_id, attempt, worker_id, device, started_at) values ($1, $2, $3, $4, $5)";

pub(super) const CLOSE_ATTEMPT: &str = "update attempts set finished_at = $3, outcome = $4, error = $5 where job_id = $1 and attempt = $2";

pub(super) const LOOKUP_PUBLICATION: &str = "\
select publications.attempt, manifest, files, type \
from publications join jobs on jobs.id = publications.job_id where job_id = $1";

pub(super) const INSERT_PUBLICATION: &str =
    "insert into publications (job_id, attempt, manifest, files) values ($1, $2, $3, $4)";

/// Whoever is asked has locked the row.
pub(super) const CHANGE: &str = "\
update jobs set state = $3, finished_at = $4, updated_at = $5, queued_at = $6, run_after = $7, failed_attempts = $8, \
crash_count = $9, error = $10, deadline_at = $11, phase = case when $3 = 'queued' then null else phase end, \
progress = case when $3 = 'queued' then null else progress end, version = version + 1 \
where id = $1 and state = $2";

pub(super) const DELETE_JOB: &str = "delete from jobs where id = $1";

pub(super) const INSERT_DELETED: &str = "insert into deleted_jobs (id, deleted_at) values ($1, $2)";

pub(super) const FORGET_DELETED: &str = "delete from deleted_jobs where deleted_at < $1";

pub(super) const LIST_OVERDUE: &str = "\
select id from jobs where deadline_at <= $1 and state in ('queued', 'paused') order by id limit 20";

/// Whose turn it is. A lane is what one submitter has waiting in one priority; its head is the oldest job of it that may
/// start and fits. Of the heads the one of the highest priority is next; of those, one whose submitter has the fewest jobs
/// running; of those, the oldest, so that a job that was interrupted comes before younger ones.
///
/// Lanes are found one after the other in the index `jobs_by_turn`: the cost grows with their number, and not with that of
/// the jobs. A job that was not put off starts whatever the time: the clock may have been set back since it was queued. So
/// whoever queues a job again sees to it that `run_after` is not later than `queued_at` unless it is put off.
pub(super) const PICK: &str = "\
with recursive lane as ( \
select priority, submitter from jobs where id = ( \
select id from jobs where state = 'queued' order by priority desc, submitter, id limit 1) \
union all \
select next.priority, next.submitter from lane join jobs as next on next.id = coalesce(( \
select id from jobs where state = 'queued' and priority = lane.priority and submitter > lane.submitter \
order by submitter, id limit 1), ( \
select id from jobs where state = 'queued' and priority < lane.priority \
order by priority desc, submitter, id limit 1)) \
), head as ( \
select priority, submitter, ( \
select id from jobs where state = 'queued' and priority = lane.priority and submitter = lane.submitter \
and (run_after <= $2 or run_after <= queued_at) and (deadline_at is null or deadline_at > $2) \
and (device_kind is null or device_kind = $3) \
and (memory_bytes is null or $4 is null or memory_bytes <= $4 - ( \
select coalesce(sum(memory_bytes), 0) from jobs \
where state in ('running', 'pausing', 'cancelling') and lease_owner = $1)) \
order by id limit 1) as id from lane \
) \
select head.id from head left join ( \
select submitter, count(*) as jobs from jobs where state in ('running', 'pausing', 'cancelling') group by submitter \
) as held on held.submitter = head.submitter \
where head.id is not null order by head.priority desc, coalesce(held.jobs, 0), head.id limit 1";

pub(super) const CLAIM: &str = concat!(
    "\
update jobs set state = 'running', attempt = attempt + 1, lease_owner = $1, lease_expires_at = $2, \
phase = null, progress = null, error = null, started_at = coalesce(started_at, $3), updated_at = $3, \
version = version + 1 \
where id = $4 and state = 'queued' \
returning ",
    job_columns!()
);

pub(super) const CHECK_LEASE: &str = "\
select state from jobs \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling')";

pub(super) const HEARTBEAT: &str = "\
update jobs set lease_expires_at = $4 \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling') \
returning state";

pub(super) const REPORT: &str = "\
update jobs set phase = coalesce($4, phase), progress = $5, updated_at = $6, version = version + 1 \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling') \
returning state";

pub(super) const FINISH: &str = "\
update jobs set state = $4, failed_attempts = failed_attempts + $5, crash_count = crash_count + $6, \
run_after = coalesce($7, case when run_after > $11 then $11 else run_after end), queued_at = case when $4 = 'queued' then $11 else queued_at end, error = $8, outcome = $9, finished_at = $10, updated_at = $11, \
phase = case when $4 = 'failed' then phase end, progress = case when $4 = 'failed' then progress end, \
lease_owner = null, lease_expires_at = null, version = version + 1 \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling') \
and ($12 is null or lease_expires_at = $12)";

pub(super) const INSERT_WEBHOOK: &str = concat!(
    "\
insert into webhooks (id, url, description, events, secret, created_at) \
select $1, $2, $3, $4, $5, $6 where (select count(*) from webhooks) < $7 \
returning ",
    webhook_columns!()
);

pub(super) const LIST_WEBHOOKS: &str =
    concat!("select ", webhook_columns!(), " from webhooks order by id");

pub(super) const LOOKUP_WEBHOOK: &str = concat!(
    "select ",
    webhook_columns!(),
    " from webhooks where id = $1"
);

pub(super) const DELETE_WEBHOOK: &str = "delete from webhooks where id = $1";

pub(super) const REPLACE_SECRET: &str = concat!(
    "\
update webhooks set previous_secret = secret, previous_until = $3, secret = $2 where id = $1 \
returning ",
    webhook_columns!()
);

pub(super) const ENABLE_WEBHOOK: &str = concat!(
    "update webhooks set disabled_at = null where id = $1 returning ",
    webhook_columns!()
);

pub(super) const DISABLE_WEBHOOK: &str =
    "update webhooks set disabled_at = $2 where id = $1 and disabled_at is null";

pub(super) const LIST_ENABLED_WEBHOOKS: &str =
    "select id, events from webhooks where disabled_at is null order by id";

pub(super) const MARK_JOB: &str = "\
select state, version, attempt, (select max(seq) from events where job_id = $1) as seq from jobs where id = $1";

pub(super) const INSERT_DELIVERY: &str = "\
insert into webhook_deliveries \
(webhook_id, message_id, event, job_id, payload, state, attempts, claims, next_attempt_at, created_at) \
values ($1, $2, $3, $4, $5, 'pending', 0, 0, $6, $6)";

pub(super) const LIST_DELIVERIES: &str = concat!(
    "select ",
    delivery_columns!(),
    " from webhook_deliveries where webhook_id = $1 and ($2 is null or seq < $2) order by seq desc limit $3"
);

pub(super) const LOOKUP_DELIVERY: &str = concat!(
    "select ",
    delivery_columns!(),
    " from webhook_deliveries where webhook_id = $1 and message_id = $2"
);

pub(super) const REDELIVER: &str = "\
update webhook_deliveries set state = 'pending', next_attempt_at = $3, \
attempts = case when state = 'pending' then attempts else 0 end \
where webhook_id = $1 and message_id = $2";

/// The message to a webhook that is due for longest. Attempts are counted here, so that one which is never heard of counts
/// too. What the webhook was picked by is asked again: by now it is nobody else's, before that it may have been.
pub(super) const CLAIM_DELIVERY: &str = "\
update webhook_deliveries set claims = claims + 1, attempts = attempts + 1, claimed_until = $3 \
where seq = (select due.seq from webhook_deliveries as due \
where due.webhook_id = $1 and due.state = 'pending' and due.next_attempt_at <= $2 \
and (due.claimed_until is null or due.claimed_until <= $2) \
order by due.next_attempt_at, due.seq limit 1) \
and state = 'pending' and next_attempt_at <= $2 and (claimed_until is null or claimed_until <= $2) \
and (select count(*) from webhook_deliveries as busy \
where busy.webhook_id = $1 and busy.claimed_until > $2) < $4 \
returning seq, message_id, payload, attempts, claims";

pub(super) const SETTLE_DELIVERY: &str = "\
update webhook_deliveries set state = $3, next_attempt_at = $4, claimed_until = null, last_attempt_at = $5, \
last_status = $6, last_error = $7, last_duration_ms = $8 \
where seq = $1 and claims = $2 and claimed_until is not null";

pub(super) const DELETE_DELIVERIES: &str = "delete from webhook_deliveries where webhook_id = $1";

pub(super) const COUNT_PENDING: &str = "\
select count(*) as pending from webhook_deliveries \
where state = 'pending' and webhook_id in (select id from webhooks where disabled_at is null)";

pub(super) const FORGET_DELIVERIES: &str = "\
delete from webhook_deliveries \
where (created_at < $1 and ( \
state <> 'pending' or webhook_id in (select id from webhooks where disabled_at is not null))) \
or webhook_id not in (select id from webhooks)";
pub(super) const ANNOUNCE_WORKER: &str = "\
insert into workers (id, host, version, devices, memory_bytes, draining, started_at, seen_at, lost_at) \
values ($1, $2, $3, $4, $5, false, $6, $6, $7) \
on conflict (id) do update set host = excluded.host, version = excluded.version, devices = excluded.devices, \
memory_bytes = excluded.memory_bytes, seen_at = excluded.seen_at, lost_at = excluded.lost_at \
returning draining";

pub(super) const LIST_WORKERS: &str = "\
select id, host, version, devices, memory_bytes, draining, started_at, seen_at, lost_at from workers order by id";

pub(super) const LIST_HELD: &str = "\
select id, lease_owner from jobs where state in ('running', 'pausing', 'cancelling') order by id";

pub(super) const COUNT_HELD: &str =
    "select count(*) as jobs from jobs where state in ('running', 'pausing', 'cancelling')";

pub(super) const SET_DRAINING: &str = "update workers set draining = $2 where id = $1";

pub(super) const LOSE_WORKER: &str =
    "update workers set lost_at = $2 where id = $1 and lost_at > $2";

pub(super) const DISMISS_WORKER: &str = "delete from workers where id = $1";

pub(super) const FORGET_WORKERS: &str = "delete from workers where lost_at < $1";

pub(super) const LOOKUP_QUEUE: &str = "select paused, changed_at from queue where id = 1";

pub(super) const SET_PAUSED: &str =
    "update queue set paused = $1, changed_at = $2 where id = 1 and paused <> $1";

pub(super) const GROUP_QUEUED: &str = "\
select run_after > $1 and run_after > queued_at as is_delayed, failed_attempts > 0 as is_retry, device_kind, memory_bytes, count(*) as jobs, \
min(case when run_after > queued_at then run_after else queued_at end) as since \
from jobs where state = 'queued' group by 1, 2, 3, 4";

pub(super) const GROUP_SUBMITTERS: &str = "\
select submitter, count(case when state = 'queued' then 1 end) as queued, \
count(case when state <> 'queued' then 1 end) as running \
from jobs where state in ('queued', 'running', 'pausing', 'cancelling') \
group by submitter order by 2 desc, 1 limit $1";

pub(super) const COUNT_AHEAD: &str = "\
select count(*) as jobs from jobs where state = 'queued' and (priority > $1 or (priority = $1 and id < $2))";
