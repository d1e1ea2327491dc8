-- The process that exports the gauges of the database, so that a sum over all processes counts no job twice.
create table metrics_exporter (
    -- there is one row
    id integer primary key not null check (id = 1),
    -- the process
    holder text not null,
    -- when another one may take its place
    expires_at integer not null
) strict;

insert into metrics_exporter (id, holder, expires_at) values (1, '', 0);
