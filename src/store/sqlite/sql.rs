//! Every statement. The ones that a worker writes with carry the whole fence: job, attempt, owner, and a state in
//! which somebody holds the job.

pub(super) const INSERT_JOB: &str = "\
insert into jobs (id, name, metadata, type, spec, model_id, method, state, attempt, failed_attempts, crash_count, \
max_attempts, run_after, created_at, updated_at, version) \
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

pub(super) const LOOKUP_JOB: &str = "select * from jobs where id = ?1";

pub(super) const LIST_JOBS: &str = "\
select * from jobs \
where (?1 is null or id < ?1) \
and (?2 is null or state in (select value from json_each(?2))) \
and (?3 is null or model_id = ?3) \
and (?4 is null or method = ?4) \
and (?5 is null or created_at >= ?5) \
and (?6 is null or created_at < ?6) \
and (?7 is null or type in (select value from json_each(?7))) \
order by id desc limit ?8";

pub(super) const COUNT_JOBS: &str = "select state, count(*) as jobs from jobs group by state";

pub(super) const LIST_LEASED: &str = "\
select id, attempt, lease_owner, lease_expires_at, phase, failed_attempts, max_attempts from jobs \
where state in ('running', 'cancelling') order by id";

pub(super) const LIST_STANDINGS: &str =
    "select id, state, attempt from jobs where id in (select value from json_each(?1))";

pub(super) const LIST_EVENTS: &str =
    "select * from events where job_id = ?1 and seq > ?2 order by seq limit ?3";

pub(super) const APPEND_EVENT: &str = "\
insert into events (job_id, seq, at, attempt, kind) \
values (?1, (select coalesce(max(seq), 0) + 1 from events where job_id = ?1), ?2, ?3, ?4)";

pub(super) const LIST_ATTEMPTS: &str = "select * from attempts where job_id = ?1 order by attempt";

pub(super) const INSERT_ATTEMPT: &str = "insert into attempts (job_id, attempt, worker_id, device, started_at) values (?1, ?2, ?3, ?4, ?5)";

pub(super) const CLOSE_ATTEMPT: &str = "update attempts set finished_at = ?3, outcome = ?4, error = ?5 where job_id = ?1 and attempt = ?2";

pub(super) const LOOKUP_PUBLICATION: &str = "\
select publications.attempt, manifest, files, type \
from publications join jobs on jobs.id = publications.job_id where job_id = ?1";

pub(super) const INSERT_PUBLICATION: &str =
    "insert into publications (job_id, attempt, manifest, files) values (?1, ?2, ?3, ?4)";

pub(super) const REQUEST_CANCEL: &str = "\
update jobs set state = ?3, finished_at = ?4, updated_at = ?5, version = version + 1 \
where id = ?1 and state = ?2";

pub(super) const CLAIM: &str = "\
update jobs set state = 'running', attempt = attempt + 1, lease_owner = ?1, lease_expires_at = ?2, \
phase = null, progress = null, error = null, started_at = coalesce(started_at, ?3), updated_at = ?3, \
version = version + 1 \
where id = (select id from jobs where state = 'queued' and run_after <= ?3 order by id limit 1) \
returning *";

pub(super) const CHECK_LEASE: &str = "\
select state from jobs \
where id = ?1 and attempt = ?2 and lease_owner = ?3 and state in ('running', 'cancelling')";

pub(super) const HEARTBEAT: &str = "\
update jobs set lease_expires_at = ?4 \
where id = ?1 and attempt = ?2 and lease_owner = ?3 and state in ('running', 'cancelling') \
returning state";

pub(super) const REPORT: &str = "\
update jobs set phase = coalesce(?4, phase), progress = ?5, updated_at = ?6, version = version + 1 \
where id = ?1 and attempt = ?2 and lease_owner = ?3 and state in ('running', 'cancelling') \
returning state";

pub(super) const LOOKUP_STATE: &str = "select state from jobs where id = ?1";

pub(super) const FINISH: &str = "\
update jobs set state = ?4, failed_attempts = failed_attempts + ?5, crash_count = crash_count + ?6, \
run_after = coalesce(?7, run_after), error = ?8, outcome = ?9, finished_at = ?10, updated_at = ?11, \
phase = case when ?4 = 'failed' then phase end, progress = case when ?4 = 'failed' then progress end, \
lease_owner = null, lease_expires_at = null, version = version + 1 \
where id = ?1 and attempt = ?2 and lease_owner = ?3 and state in ('running', 'cancelling') \
and (?12 is null or lease_expires_at = ?12)";

pub(super) const APPLIED_VERSION: &str = "select max(version) from _sqlx_migrations where success";
