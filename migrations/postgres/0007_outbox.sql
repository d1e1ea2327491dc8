-- The message of one webhook that is due for longest, however many wait for others. The index before led to the oldest one
-- of all, past those of every webhook that nothing is sent to now; the version before finds it in this one, with a sort.
drop index webhook_deliveries_pending;

create index webhook_deliveries_waiting on webhook_deliveries (webhook_id, next_attempt_at, seq) where state = 'pending';
