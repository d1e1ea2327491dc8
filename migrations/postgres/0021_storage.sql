-- bytes that the worker's machine holds for jobs, by kind, JSON; not measured yet unless set
alter table workers add column used_bytes text;
