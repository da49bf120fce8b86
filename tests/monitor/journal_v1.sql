-- A journal as version 1 wrote it (migrations/0001), dumped; never to be changed.
BEGIN TRANSACTION;
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
INSERT INTO "changes" VALUES(1,'lang-son','mail.smtp','down',1801846830000,1801846840000,1801846800000,'refused','từ chối',0);
CREATE TABLE checks (
    no INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    UNIQUE (site, name, path)
) STRICT;
INSERT INTO "checks" VALUES(1,'lang-son','mail.smtp','');
INSERT INTO "checks" VALUES(2,'lang-son','mail.smtp','vnpt');
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    check_name TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER,                     -- NULL: still open
    cause TEXT NOT NULL
) STRICT;
INSERT INTO "gaps" VALUES(1,'lang-son','portal.home',1801846805000,NULL,'off');
INSERT INTO "gaps" VALUES(2,'lang-son','mail.smtp',1801846801000,1801846802000,'missed');
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
INSERT INTO "incidents" VALUES(1,'lang-son','mail','down',1801846830000,1801846840000,NULL,NULL,1,'SMTP: từ chối');
CREATE TABLE memories (
    site TEXT NOT NULL,
    check_name TEXT NOT NULL,
    body TEXT NOT NULL,                 -- JSON of monitor.judge.outage.Memory
    PRIMARY KEY (site, check_name)
) STRICT;
INSERT INTO "memories" VALUES('lang-son','mail.smtp','{"state":"down","since":"2027-02-05T17:00:30Z","bad":3,"first_bad":"2027-02-05T17:00:30Z","counted_bad":null,"good":0,"first_good":null,"slow":0,"first_slow":null,"last_good":null,"last_bad":null,"history":"uud","flapping":false}');
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
INSERT INTO "outbox" VALUES(1,'lang-son',1,'opened','mail','<opened-1@lang-son>','<1@lang-son>','{"site":"lang-son","site_name":"Sở Thông tin và Truyền thông tỉnh Lạng Sơn","incident":1,"kind":"opened","service":"mail","service_name":"Dịch vụ mail","service_kind":"mail","state":"down","since":"2027-02-05T17:00:00Z","at":"2027-02-05T17:00:10Z","evidence":[],"references_good":0,"references_bad":0,"affected":[],"cause":"","flapping":false,"ended_at":null}',1801846841000,1801846841000,0,NULL,NULL,'');
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
INSERT INTO "results" VALUES(1,1801846800000,1801846800000,0,0,25000,'','{}');
INSERT INTO "results" VALUES(2,1801846830000,1801846830000,0,0,10000000,'refused','{"d":"từ chối"}');
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    alive_ms INTEGER NOT NULL,          -- the last committed transaction of this run
    stopped_ms INTEGER,                 -- NULL: it did not end by itself
    config_digest TEXT NOT NULL,
    version TEXT NOT NULL
) STRICT;
INSERT INTO "runs" VALUES(1,'lang-son',1801846800000,1801846850000,1801846850000,'d1','0.1.0');
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
INSERT INTO "slots" VALUES('lang-son','mail.smtp',1801846800000,2,1,0,4);
CREATE INDEX changes_by_subject ON changes (site, subject, id);
CREATE INDEX gaps_by_check ON gaps (site, check_name, start_ms);
CREATE INDEX gaps_open ON gaps (site, check_name) WHERE end_ms IS NULL;
CREATE UNIQUE INDEX incidents_one_open ON incidents (site, subject) WHERE ended_ms IS NULL;
CREATE INDEX outbox_waiting ON outbox (channel, next_try_ms) WHERE sent_ms IS NULL AND failed_ms IS NULL;
CREATE VIEW changes_readable AS
    SELECT site, subject, state, datetime(at_ms / 1000, 'unixepoch') AS at_utc,
           datetime(confirmed_ms / 1000, 'unixepoch') AS confirmed_utc, fault, detail
    FROM changes ORDER BY id;
CREATE VIEW results_readable AS
    SELECT checks.site, checks.name, checks.path, datetime(started_ms / 1000, 'unixepoch') AS started_utc,
           attempt, duration_us / 1000.0 AS duration_ms, fault, body
    FROM results JOIN checks ON checks.no = results.check_no;
COMMIT;
PRAGMA user_version = 1;
