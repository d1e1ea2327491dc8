-- The artifact store that belongs to this database: no other one has the files of its jobs.
create table store_id (
    -- there is one row
    id bigint primary key not null check (id = 1),
    -- a UUID, which the artifact store holds too
    store_id text not null,
    -- whether an artifact store was found to hold it
    is_paired boolean not null
);
