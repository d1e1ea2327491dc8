-- multiplications that the job computes, so that its time can be told by that of others; unknown unless set
alter table jobs add column work integer;

-- The last jobs whose speed tells something. The state, which is always the same, has it preferred to the index of all states.
create index jobs_by_work on jobs (state, id) where state = 'succeeded' and attempt = 1 and work > 0;
