-- Names, by themselves and by how they begin.
alter table jobs alter column name type text collate "C";
create index jobs_by_name on jobs (name, id) where name is not null;

-- The pairs in `metadata` of each job, for filters.
create table job_metadata (
    -- the key of the pair
    key text collate "C" not null,
    -- its value
    value text collate "C" not null,
    -- the job
    job_id text collate "C" not null references jobs (id) on delete cascade,
    primary key (key, value, job_id)
);

create index job_metadata_by_job on job_metadata (job_id);

insert into job_metadata (key, value, job_id)
select pair.key, pair.value, jobs.id from jobs, json_each_text(jobs.metadata::json) as pair
where jobs.metadata like '{%}' on conflict do nothing;

-- Also for jobs that the version before stores.
create function secateur_list_metadata() returns trigger language plpgsql as $$
begin
    insert into job_metadata (key, value, job_id)
    select pair.key, pair.value, new.id from json_each_text(new.metadata::json) as pair on conflict do nothing;
    return null;
end
$$;

create trigger jobs_metadata after insert on jobs
for each row when (new.metadata like '{%:%}')
execute function secateur_list_metadata();
