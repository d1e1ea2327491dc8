create table workers (
    -- `worker_` and a version 7 UUID, another one for each process
    id text collate "C" primary key not null,
    -- the machine's name
    host text not null,
    -- the version of its program
    version text not null,
    -- the devices that it has a slot for each, JSON
    devices text not null,
    -- bytes of memory that its attempts may take together; unknown unless set
    memory_bytes bigint,
    -- whether it shall claim nothing more
    draining boolean not null,
    -- when it was first heard of
    started_at bigint not null,
    -- when it was heard of last
    seen_at bigint not null,
    -- when it counts as lost unless it is heard of again
    lost_at bigint not null
);

create table queue (
    -- there is one row
    id bigint primary key not null check (id = 1),
    -- whether nobody shall claim anything
    paused boolean not null,
    -- when that changed last
    changed_at bigint not null
);

insert into queue (id, paused, changed_at) values (1, false, 0);

-- Whoever may claim again hears of it.
create function secateur_tell_open() returns trigger language plpgsql as $$
begin
    perform pg_notify('secateur_jobs', 'queued');
    return null;
end
$$;

create trigger queue_resumed after update of paused on queue
for each row when (old.paused and not new.paused)
execute function secateur_tell_open();

create trigger workers_undrained after update of draining on workers
for each row when (old.draining and not new.draining)
execute function secateur_tell_open();

-- All that a claim looks at, so that it need not look into the rows. The state, which is always the same, has the index
-- preferred to that of all states.
create index jobs_by_turn
on jobs (state, priority desc, submitter, id, run_after, device_kind, memory_bytes, deadline_at)
where state = 'queued';
