-- the event that tells of the deletion, JSON
alter table deleted_jobs add column kind text not null default '{"type":"deleted"}';
