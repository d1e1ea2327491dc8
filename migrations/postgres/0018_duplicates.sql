-- SHA-256 of what the job does to which models, so that the same work is found; none where a commit was not known
alter table jobs add column fingerprint text collate "C";

create index jobs_by_fingerprint on jobs (fingerprint, id) where fingerprint is not null;
