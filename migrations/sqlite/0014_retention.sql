-- whether it stays when the time after which finished jobs are deleted is over
alter table jobs add column kept integer not null default 0 check (kept in (0, 1));
-- bytes of its artifact
alter table jobs add column artifact_bytes integer not null default 0;

update jobs set artifact_bytes = coalesce(json_extract(outcome, '$.size_bytes'), 0)
where outcome is not null and json_valid(outcome);

create index jobs_by_end on jobs (finished_at) where finished_at is not null and not kept;
create index jobs_by_artifact on jobs (artifact_bytes) where artifact_bytes > 0;
