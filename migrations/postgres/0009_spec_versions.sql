-- the version of the form that the spec is stored in; a worker claims no job of a newer one than it knows
alter table jobs add column spec_version bigint not null default 1;

-- All that a claim looks at, as before.
drop index jobs_by_turn;
create index jobs_by_turn
on jobs (state, priority desc, submitter, id, run_after, device_kind, memory_bytes, deadline_at, spec_version)
where state = 'queued';
