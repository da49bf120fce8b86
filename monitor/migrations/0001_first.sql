-- The journal. Times are milliseconds since 1970 UTC. `results` has no index: rows are appended, and read by time
-- from the end; an index would multiply what is written.

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    alive_ms INTEGER NOT NULL,          -- the last committed transaction of this run
    stopped_ms INTEGER,                 -- NULL: it did not end by itself
    config_digest TEXT NOT NULL,
    version TEXT NOT NULL
) STRICT;

CREATE TABLE checks (
    no INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    UNIQUE (site, name, path)
) STRICT;

CREATE TABLE results (
    check_no INTEGER NOT NULL,
    slot_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    lateness_us INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    fault TEXT NOT NULL,                -- '' is good
    body TEXT NOT NULL                  -- JSON: detail, phases and rtts in microseconds, values, facts
) STRICT;

CREATE TABLE changes (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    confirmed_ms INTEGER NOT NULL,
    earliest_ms INTEGER NOT NULL,
    fault TEXT NOT NULL,
    detail TEXT NOT NULL,
    flapping INTEGER NOT NULL
) STRICT;
CREATE INDEX changes_by_subject ON changes (site, subject, id);

CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    check_name TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER,                     -- NULL: still open
    cause TEXT NOT NULL
) STRICT;
CREATE INDEX gaps_by_check ON gaps (site, check_name, start_ms);
CREATE INDEX gaps_open ON gaps (site, check_name) WHERE end_ms IS NULL;

CREATE TABLE memories (
    site TEXT NOT NULL,
    check_name TEXT NOT NULL,
    body TEXT NOT NULL,                 -- JSON of monitor.judge.outage.Memory
    PRIMARY KEY (site, check_name)
) STRICT;

CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    began_ms INTEGER NOT NULL,
    confirmed_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    parent INTEGER,
    told INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX incidents_one_open ON incidents (site, subject) WHERE ended_ms IS NULL;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    incident INTEGER NOT NULL,
    kind TEXT NOT NULL,
    channel TEXT NOT NULL,
    message_id TEXT NOT NULL UNIQUE,
    thread_id TEXT NOT NULL,
    notice TEXT NOT NULL,               -- JSON of monitor.model.Notice
    created_ms INTEGER NOT NULL,
    next_try_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent_ms INTEGER,
    failed_ms INTEGER,
    last_detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX outbox_waiting ON outbox (channel, next_try_ms) WHERE sent_ms IS NULL AND failed_ms IS NULL;

CREATE TABLE slots (
    site TEXT NOT NULL,
    check_name TEXT NOT NULL,
    hour_ms INTEGER NOT NULL,
    done INTEGER NOT NULL,
    late INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    PRIMARY KEY (site, check_name, hour_ms)
) STRICT;

-- For people with the sqlite3 shell: times as text.
CREATE VIEW changes_readable AS
    SELECT site, subject, state, datetime(at_ms / 1000, 'unixepoch') AS at_utc,
           datetime(confirmed_ms / 1000, 'unixepoch') AS confirmed_utc, fault, detail
    FROM changes ORDER BY id;
CREATE VIEW results_readable AS
    SELECT checks.site, checks.name, checks.path, datetime(started_ms / 1000, 'unixepoch') AS started_utc,
           attempt, duration_us / 1000.0 AS duration_ms, fault, body
    FROM results JOIN checks ON checks.no = results.check_no;
