-- whether it stays when the time after which finished jobs are deleted is over
alter table jobs add column kept boolean not null default false;
-- bytes of its artifact
alter table jobs add column artifact_bytes bigint not null default 0;

update jobs set artifact_bytes = coalesce((outcome::json ->> 'size_bytes')::bigint, 0) where outcome like '{%}';

create index jobs_by_end on jobs (finished_at) where finished_at is not null and not kept;
create index jobs_by_artifact on jobs (artifact_bytes) where artifact_bytes > 0;
