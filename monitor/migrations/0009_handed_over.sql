-- What is known of a word between the relay and our note that it was sent, so that a restart tells nobody twice.

ALTER TABLE outbox ADD COLUMN served TEXT NOT NULL DEFAULT '{}';    -- JSON: recipient -> when a relay took it for them, ms
ALTER TABLE outbox ADD COLUMN handed INTEGER NOT NULL DEFAULT 0;    -- 1: being handed over; 2: was, and its end was lost
