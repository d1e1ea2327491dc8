-- the span of the request that submitted the job, as W3C Trace Context writes it; none where there are no traces
alter table jobs add column traceparent text;
