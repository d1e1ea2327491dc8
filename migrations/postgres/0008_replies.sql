-- The answer to a request under a key is the job, its version and the body: its headers follow from these.
update idempotency_keys set reply = json_build_object(
    'job_id', substr(reply::json #>> '{headers,location}', length('/v1/jobs/') + 1),
    'version', trim(both '"' from reply::json #>> '{headers,etag}')::bigint,
    'body', reply::json ->> 'body'
)::text;
