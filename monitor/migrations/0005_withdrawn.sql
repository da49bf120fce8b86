-- When a word was found to be our own fault. One that had not left by then has `failed_ms` as well and never leaves.

ALTER TABLE outbox ADD COLUMN withdrawn_ms INTEGER;
