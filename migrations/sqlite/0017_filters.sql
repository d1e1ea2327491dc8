-- Names, by themselves and by how they begin.
create index jobs_by_name on jobs (name, id) where name is not null;

-- The pairs in `metadata` of each job, for filters.
create table job_metadata (
    -- the key of the pair
    key text not null,
    -- its value
    value text not null,
    -- the job
    job_id text not null references jobs (id) on delete cascade,
    primary key (key, value, job_id)
) strict, without rowid;

create index job_metadata_by_job on job_metadata (job_id);

insert or ignore into job_metadata (key, value, job_id)
select pair.key, pair.value, jobs.id from jobs, json_each(jobs.metadata) as pair where json_valid(jobs.metadata);

-- Also for jobs that the version before stores.
create trigger jobs_metadata after insert on jobs when json_valid(new.metadata)
begin
    insert or ignore into job_metadata (key, value, job_id)
    select pair.key, pair.value, new.id from json_each(new.metadata) as pair;
end;
