-- Pausing, deadlines, and what the queue goes by.
alter table jobs drop constraint jobs_state_check;
alter table jobs drop constraint jobs_check;
alter table jobs add constraint jobs_state_check check (state in (
    'queued', 'running', 'succeeded', 'failed', 'pausing', 'paused', 'cancelling', 'cancelled'
));
-- A lease exists exactly while somebody works on the job.
alter table jobs add constraint jobs_check check (
    (state in ('running', 'pausing', 'cancelling')) = (lease_owner is not null and lease_expires_at is not null)
);

-- higher ones are claimed first
alter table jobs add column priority bigint not null default 0;
-- who asked for it: submitters share the workers evenly
alter table jobs add column submitter text not null default '';
-- the kind of device that it needs, cpu or cuda; any unless set
alter table jobs add column device_kind text;
-- bytes of memory that it is thought to need; unknown unless set
alter table jobs add column memory_bytes bigint;
-- how long after its acceptance, or its last retry, it fails unless it is over, in milliseconds
alter table jobs add column deadline_after bigint;
-- when that is
alter table jobs add column deadline_at bigint;
-- when it came into the queue last
alter table jobs add column queued_at bigint not null default 0;

update jobs set queued_at = created_at;

-- Only few jobs have one.
create index jobs_by_deadline on jobs (deadline_at) where deadline_at is not null;

-- The transitions of `JobState::may_become`: whatever a statement tries, no other one can be written.
drop trigger jobs_transition on jobs;
create trigger jobs_transition before update of state on jobs
for each row when (
    old.state <> new.state and (old.state || '>' || new.state) not in (
        'queued>running', 'queued>paused', 'queued>cancelled', 'queued>failed',
        'running>succeeded', 'running>failed', 'running>queued', 'running>pausing', 'running>cancelling',
        'pausing>paused', 'pausing>succeeded', 'pausing>failed', 'pausing>cancelling',
        'paused>queued', 'paused>cancelled', 'paused>failed',
        'cancelling>cancelled', 'cancelling>succeeded', 'cancelling>failed',
        'failed>queued', 'cancelled>queued'
    )
)
execute function secateur_refuse_transition();

-- Tells whoever listens what to do: take a queued job, or stop a running one. Whoever does not listen looks.
create or replace function secateur_tell() returns trigger language plpgsql as $$
begin
    perform pg_notify(
        'secateur_jobs',
        case when new.state in ('pausing', 'cancelling') then new.state || ' ' || new.id else new.state end
    );
    return null;
end
$$;

drop trigger jobs_changed on jobs;
create trigger jobs_changed after update of state on jobs
for each row when (old.state <> new.state and new.state in ('queued', 'pausing', 'cancelling'))
execute function secateur_tell();

-- Files of jobs that were deleted: whoever sweeps may remove them at once.
create table deleted_jobs (
    -- the job
    id text collate "C" primary key not null,
    -- when it was deleted
    deleted_at bigint not null
);

-- Events of all jobs have numbers that grow in the order in which they became visible, so that a reader who goes on after
-- the last one it saw misses none. Whoever writes an event holds the row until it commits.
create table event_numbers (
    -- there is one row
    id bigint primary key not null check (id = 1),
    -- the number of the newest event
    last bigint not null
);

alter table events add column number bigint not null default 0;

update events set number = counted.number
from (select job_id, seq, row_number() over (order by at, job_id, seq) as number from events) as counted
where counted.job_id = events.job_id and counted.seq = events.seq;

insert into event_numbers (id, last) select 1, count(*) from events;

create unique index events_by_number on events (number);

-- Tells that the log has grown.
create function secateur_tell_event() returns trigger language plpgsql as $$
begin
    perform pg_notify('secateur_jobs', 'event');
    return null;
end
$$;

create trigger events_told after insert on events
for each statement
execute function secateur_tell_event();
