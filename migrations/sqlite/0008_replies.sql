-- The answer to a request under a key is the job, its version and the body: its headers follow from these.
update idempotency_keys set reply = json_object(
    'job_id', substr(json_extract(reply, '$.headers.location'), length('/v1/jobs/') + 1),
    'version', cast(trim(json_extract(reply, '$.headers.etag'), '"') as integer),
    'body', json_extract(reply, '$.body')
);
