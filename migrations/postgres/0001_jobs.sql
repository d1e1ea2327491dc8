create table jobs (
    -- `job_` and a version 7 UUID: sorting by it is sorting by the time of creation
    id text collate "C" primary key not null,
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
    state text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelling', 'cancelled')),
    -- what the current attempt does
    phase text,
    -- how far that is, JSON
    progress text,
    -- number of claims so far; never goes back: with lease_owner the fencing token of the lease
    attempt bigint not null,
    -- attempts that count against max_attempts
    failed_attempts bigint not null,
    -- how many of those ended without a word of their own
    crash_count bigint not null,
    -- attempts that may fail before the job does
    max_attempts bigint not null,
    -- not to be claimed earlier
    run_after bigint not null,
    -- the worker that holds the job
    lease_owner text,
    -- when the lease ends unless it is renewed
    lease_expires_at bigint,
    -- why the job failed, or why it is queued again, JSON
    error text,
    -- what a succeeded job brought, in short, JSON
    outcome text,
    -- when it was accepted
    created_at bigint not null,
    -- when it was claimed first
    started_at bigint,
    -- when it ended
    finished_at bigint,
    -- when anything but the lease changed last
    updated_at bigint not null,
    -- grows with every such change
    version bigint not null,
    -- a lease exists exactly while somebody works on the job
    check ((state in ('running', 'cancelling')) = (lease_owner is not null and lease_expires_at is not null))
);

create index jobs_by_state on jobs (state, id);

-- The transitions of `JobState::may_become`: whatever a statement tries, no other one can be written.
create function secateur_refuse_transition() returns trigger language plpgsql as $$
begin
    raise exception 'illegal job transition from % to %', old.state, new.state;
end
$$;

create trigger jobs_transition before update of state on jobs
for each row when (
    old.state <> new.state and (old.state || '>' || new.state) not in (
        'queued>running', 'queued>cancelled',
        'running>succeeded', 'running>failed', 'running>queued', 'running>cancelling',
        'cancelling>cancelled', 'cancelling>succeeded', 'cancelling>failed'
    )
)
execute function secateur_refuse_transition();

-- Tells whoever listens what to do: take a queued job, or stop a running one. Whoever does not listen looks.
create function secateur_tell() returns trigger language plpgsql as $$
begin
    perform pg_notify(
        'secateur_jobs',
        case new.state when 'cancelling' then 'cancelling ' || new.id else new.state end
    );
    return null;
end
$$;

create trigger jobs_queued after insert on jobs
for each row when (new.state = 'queued')
execute function secateur_tell();

create trigger jobs_changed after update of state on jobs
for each row when (old.state <> new.state and new.state in ('queued', 'cancelling'))
execute function secateur_tell();

create table attempts (
    -- the job
    job_id text collate "C" not null references jobs (id) on delete cascade,
    -- the job's `attempt` while this one ran
    attempt bigint not null,
    -- the worker that claimed it
    worker_id text not null,
    -- the device it ran on
    device text not null,
    -- when it was claimed
    started_at bigint not null,
    -- when it ended
    finished_at bigint,
    -- how it ended: succeeded, failed, crashed, cancelled or released
    outcome text,
    -- why it failed, JSON
    error text,
    primary key (job_id, attempt)
);

create table events (
    -- the job
    job_id text collate "C" not null references jobs (id) on delete cascade,
    -- 1 for the job's first event, without gaps
    seq bigint not null,
    -- when it happened
    at bigint not null,
    -- the attempt it belongs to; 0 before the first
    attempt bigint not null,
    -- what happened, JSON
    kind text not null,
    primary key (job_id, seq)
);

create table publications (
    -- the job: at most one attempt is ever visible
    job_id text collate "C" primary key not null references jobs (id) on delete cascade,
    -- the attempt under whose prefix the files lie
    attempt bigint not null,
    -- the content of secateur.json, JSON
    manifest text not null,
    -- name, length and digest of every file, JSON
    files text not null
);
