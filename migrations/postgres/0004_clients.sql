-- What was answered to requests that carry an `Idempotency-Key`.
create table idempotency_keys (
    -- the route that the key is for
    scope text not null,
    -- what the client calls the request
    key text not null,
    -- SHA-256 of the request's canonical body
    fingerprint text not null,
    -- status, headers and body of the answer, JSON
    reply text not null,
    -- when the key means nothing any more
    expires_at bigint not null,
    primary key (scope, key)
);

create index idempotency_keys_by_end on idempotency_keys (expires_at);
