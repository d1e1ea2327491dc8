-- prune or evaluate: how `spec`, and the report of the job's publication, are to be read. The version before this column
-- knew `prune` alone, and its rows, which also name no type within `spec`, are of that one. `method` is empty for jobs
-- that prune nothing, and `publications.manifest` holds the report of either type.
alter table jobs add column type text not null default 'prune';
