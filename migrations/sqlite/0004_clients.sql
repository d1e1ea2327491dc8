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
    expires_at integer not null,
    primary key (scope, key)
);

create index idempotency_keys_by_end on idempotency_keys (expires_at);

-- Who wants to be told of jobs.
create table webhooks (
    -- `wh_` and a version 7 UUID: sorting by it is sorting by the time of creation
    id text primary key not null,
    -- where the messages go
    url text not null,
    -- what its owner says about it
    description text,
    -- what it wants to be told, JSON
    events text not null,
    -- what its messages are signed with
    secret text not null,
    -- what they were signed with before
    previous_secret text,
    -- until when they are signed with both
    previous_until integer,
    -- since when nothing is sent
    disabled_at integer,
    -- when it was registered
    created_at integer not null
);

-- What is to be sent and what was. Without references: what is written about a job waits for no webhook. Rows whose
-- webhook is gone are not sent, and collected.
create table webhook_deliveries (
    -- grows with every message
    seq integer primary key autoincrement,
    -- the webhook
    webhook_id text not null,
    -- the `webhook-id` of every attempt to send it
    message_id text not null,
    -- what it tells
    event text not null,
    -- the job that it tells it of
    job_id text,
    -- the body, JSON
    payload text not null,
    -- where it is in its life
    state text not null check (state in ('pending', 'succeeded', 'exhausted')),
    -- how often it was sent since it was last asked for
    attempts integer not null,
    -- how often it was taken to be sent; never goes back: the fencing token of `claimed_until`
    claims integer not null,
    -- until when nobody else sends it
    claimed_until integer,
    -- when it is sent next
    next_attempt_at integer,
    -- when it was sent last
    last_attempt_at integer,
    -- what the receiver answered then
    last_status integer,
    -- why that was no success
    last_error text,
    -- how long it took, milliseconds
    last_duration_ms integer,
    -- when it was written
    created_at integer not null,
    -- there is a next attempt exactly while it is pending
    check ((state = 'pending') = (next_attempt_at is not null)),
    unique (webhook_id, message_id)
);

create index webhook_deliveries_by_webhook on webhook_deliveries (webhook_id, seq);

create index webhook_deliveries_pending on webhook_deliveries (next_attempt_at, seq) where state = 'pending';

create index webhook_deliveries_claimed on webhook_deliveries (webhook_id, claimed_until) where claimed_until is not null;
