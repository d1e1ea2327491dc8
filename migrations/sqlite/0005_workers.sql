create table workers (
    -- `worker_` and a version 7 UUID, another one for each process
    id text primary key not null,
    -- the machine's name
    host text not null,
    -- the version of its program
    version text not null,
    -- the devices that it has a slot for each, JSON
    devices text not null,
    -- bytes of memory that its attempts may take together; unknown unless set
    memory_bytes integer,
    -- whether it shall claim nothing more
    draining integer not null check (draining in (0, 1)),
    -- when it was first heard of
    started_at integer not null,
    -- when it was heard of last
    seen_at integer not null,
    -- when it counts as lost unless it is heard of again
    lost_at integer not null
) strict;

create table queue (
    -- there is one row
    id integer primary key not null check (id = 1),
    -- whether nobody shall claim anything
    paused integer not null check (paused in (0, 1)),
    -- when that changed last
    changed_at integer not null
) strict;

insert into queue (id, paused, changed_at) values (1, 0, 0);

-- All that a claim looks at, so that it need not look into the rows. The state, which is always the same, has the index
-- preferred to that of all states.
create index jobs_by_turn
on jobs (state, priority desc, submitter, id, run_after, device_kind, memory_bytes, deadline_at)
where state = 'queued';
