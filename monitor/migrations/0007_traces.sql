-- The way to what failed, hop by hop: traced when an incident opens, some minutes later, and when it is over.

CREATE TABLE traces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site TEXT NOT NULL,
    incident INTEGER NOT NULL,
    moment TEXT NOT NULL,               -- opened | later | recovered
    check_name TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    detail TEXT NOT NULL,               -- what stopped it
    body TEXT NOT NULL                  -- JSON of monitor.traced.RouteTrace
) STRICT;
CREATE INDEX traces_of_incident ON traces (site, incident);
