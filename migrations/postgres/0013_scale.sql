-- Filters of lists, each in the order of the list.
create index jobs_by_model on jobs (model_id, id);
create index jobs_by_method on jobs (method, id);
create index jobs_by_submitter on jobs (submitter, id);
create index jobs_by_type on jobs (type, id);

-- What is old is found without a look at the rest.
create index webhook_deliveries_by_age on webhook_deliveries (created_at);
create index deleted_jobs_by_age on deleted_jobs (deleted_at);

-- The jobs whose artifacts a job works on.
create table job_sources (
    -- the job whose artifact it is
    source_id text collate "C" not null,
    -- the job that works on it
    job_id text collate "C" not null references jobs (id) on delete cascade,
    primary key (source_id, job_id)
);

create index job_sources_by_job on job_sources (job_id);

insert into job_sources (source_id, job_id)
select spec::json #>> array[field.name, 'id'], jobs.id
from jobs, (values ('model'), ('baseline')) as field (name)
where spec like '%"source":"job"%' and spec::json #>> array[field.name, 'source'] = 'job'
on conflict do nothing;
