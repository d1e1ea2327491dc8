-- bytes of disk that the job is thought to need; unknown unless set
alter table jobs add column disk_bytes bigint;

-- All that a claim looks at, as before.
drop index jobs_by_turn;
create index jobs_by_turn
on jobs (state, priority desc, submitter, id, run_after, device_kind, memory_bytes, deadline_at, spec_version, disk_bytes)
where state = 'queued';

-- bytes that were free on the worker's disk when it was heard of last; unknown unless set
alter table workers add column free_disk_bytes bigint;
-- the newest form of specs that the worker knows
alter table workers add column spec_version bigint not null default 1;
