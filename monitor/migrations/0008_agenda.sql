-- Since when a report by schedule is known, so that what was due before that is not owed.

CREATE TABLE agenda (
    site TEXT NOT NULL,
    name TEXT NOT NULL,                 -- monitor.agenda.name_of: the schedule with its time
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (site, name)
) STRICT;
