-- Who asked to cancel the job, and why, JSON.
alter table jobs add column cancellation text;

-- The machine of the worker that ran the attempt.
alter table attempts add column host text;

-- The last lines that the attempt wrote to its log.
alter table attempts add column log_tail text;

-- The event that tells of the deletion, for those who follow all jobs: its number, and what it was in the job's own log.
alter table deleted_jobs add column number integer;
alter table deleted_jobs add column seq integer;
alter table deleted_jobs add column attempt integer;

create index deleted_jobs_by_number on deleted_jobs (number);
