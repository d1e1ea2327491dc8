-- Pausing, deadlines, and what the queue goes by. A check cannot be changed, so the table is made anew; the connection
-- that migrates enforces no foreign keys, and they name the table by its old name.
create table new_jobs (
    -- `job_` and a version 7 UUID: sorting by it is sorting by the time of creation
    id text primary key not null,
    -- the submitter's name for the job
    name text,
    -- the submitter's key-value pairs, JSON
    metadata text not null,
    -- what to do: a complete PruneSpec, JSON
    spec text not null,
    -- the model's id within `spec`, for filters
    model_id text not null,
    -- the method within `spec`, for filters
    method text not null,
    -- where the job is in its life
    state text not null check (state in (
        'queued', 'running', 'succeeded', 'failed', 'pausing', 'paused', 'cancelling', 'cancelled'
    )),
    -- what the current attempt does
    phase text,
    -- how far that is, JSON
    progress text,
    -- number of claims so far; never goes back: with lease_owner the fencing token of the lease
    attempt integer not null,
    -- attempts that count against max_attempts
    failed_attempts integer not null,
    -- how many of those ended without a word of their own
    crash_count integer not null,
    -- attempts that may fail before the job does
    max_attempts integer not null,
    -- not to be claimed earlier
    run_after integer not null,
    -- the worker that holds the job
    lease_owner text,
    -- when the lease ends unless it is renewed
    lease_expires_at integer,
    -- why the job failed, or why it is queued again, JSON
    error text,
    -- what a succeeded job brought, in short, JSON
    outcome text,
    -- when it was accepted
    created_at integer not null,
    -- when it was claimed first
    started_at integer,
    -- when it ended
    finished_at integer,
    -- when anything but the lease changed last
    updated_at integer not null,
    -- grows with every such change
    version integer not null,
    -- prune or evaluate: how `spec`, and the report of the job's publication, are to be read
    type text not null default 'prune',
    -- higher ones are claimed first
    priority integer not null default 0,
    -- who asked for it: submitters share the workers evenly
    submitter text not null default '',
    -- the kind of device that it needs, cpu or cuda; any unless set
    device_kind text,
    -- bytes of memory that it is thought to need; unknown unless set
    memory_bytes integer,
    -- how long after its acceptance, or its last retry, it fails unless it is over, in milliseconds
    deadline_after integer,
    -- when that is
    deadline_at integer,
    -- when it came into the queue last
    queued_at integer not null default 0,
    -- a lease exists exactly while somebody works on the job
    check ((state in ('running', 'pausing', 'cancelling')) = (lease_owner is not null and lease_expires_at is not null))
) strict;

insert into new_jobs (
    id, name, metadata, spec, model_id, method, state, phase, progress, attempt, failed_attempts, crash_count,
    max_attempts, run_after, lease_owner, lease_expires_at, error, outcome, created_at, started_at, finished_at,
    updated_at, version, type, queued_at
)
select
    id, name, metadata, spec, model_id, method, state, phase, progress, attempt, failed_attempts, crash_count,
    max_attempts, run_after, lease_owner, lease_expires_at, error, outcome, created_at, started_at, finished_at,
    updated_at, version, type, created_at
from jobs;

drop table jobs;
alter table new_jobs rename to jobs;

create index jobs_by_state on jobs (state, id);
-- Only few jobs have one.
create index jobs_by_deadline on jobs (deadline_at) where deadline_at is not null;

-- The transitions of `JobState::may_become`: whatever a statement tries, no other one can be written.
create trigger jobs_transition before update of state on jobs
when old.state <> new.state and (old.state || '>' || new.state) not in (
    'queued>running', 'queued>paused', 'queued>cancelled', 'queued>failed',
    'running>succeeded', 'running>failed', 'running>queued', 'running>pausing', 'running>cancelling',
    'pausing>paused', 'pausing>succeeded', 'pausing>failed', 'pausing>cancelling',
    'paused>queued', 'paused>cancelled', 'paused>failed',
    'cancelling>cancelled', 'cancelling>succeeded', 'cancelling>failed',
    'failed>queued', 'cancelled>queued'
)
begin
    select raise(abort, 'illegal job transition');
end;

-- Files of jobs that were deleted: whoever sweeps may remove them at once.
create table deleted_jobs (
    -- the job
    id text primary key not null,
    -- when it was deleted
    deleted_at integer not null
) strict;

-- Events of all jobs have numbers that grow in the order in which they became visible, so that a reader who goes on after
-- the last one it saw misses none.
create table event_numbers (
    -- there is one row
    id integer primary key not null check (id = 1),
    -- the number of the newest event
    last integer not null
) strict;

alter table events add column number integer not null default 0;

update events set number = counted.number
from (select job_id, seq, row_number() over (order by at, job_id, seq) as number from events) as counted
where counted.job_id = events.job_id and counted.seq = events.seq;

insert into event_numbers (id, last) select 1, count(*) from events;

create unique index events_by_number on events (number);
