-- What people put on record: announced work, and corrections of what was measured. Rows are added, never changed.

CREATE TABLE announcements (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site TEXT NOT NULL,
    act TEXT NOT NULL CHECK (act IN ('announced', 'cancelled')),
    announcement INTEGER,               -- of a cancellation: the id of what it ends
    subject TEXT NOT NULL,              -- id of a service, or service.check
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,               -- who said so; '' for the configuration
    account TEXT NOT NULL,              -- who was logged in, as the system knows
    source TEXT NOT NULL,               -- 'person', or 'configuration'
    at_ms INTEGER NOT NULL              -- when it was put on record
) STRICT;

CREATE TABLE corrections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site TEXT NOT NULL,
    act TEXT NOT NULL CHECK (act IN ('proposed', 'approved', 'rejected')),
    proposal INTEGER,                   -- of a decision: the id of what is decided on
    subject TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    state TEXT NOT NULL,                -- what it was, as the author says
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    account TEXT NOT NULL,
    evidence TEXT NOT NULL DEFAULT '',  -- JSON: name, sha256 and size of a file that shows it; '' without one
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TRIGGER announcements_stay BEFORE UPDATE ON announcements BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END;
CREATE TRIGGER announcements_kept BEFORE DELETE ON announcements BEGIN SELECT RAISE(ABORT, 'a record is never deleted'); END;
CREATE TRIGGER corrections_stay BEFORE UPDATE ON corrections BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END;
CREATE TRIGGER corrections_kept BEFORE DELETE ON corrections BEGIN SELECT RAISE(ABORT, 'a record is never deleted'); END;

-- No second decision on a proposal, and no second end of an announcement, whoever writes at the same time.
CREATE UNIQUE INDEX corrections_decided ON corrections (proposal) WHERE proposal IS NOT NULL;
CREATE UNIQUE INDEX announcements_ended ON announcements (announcement) WHERE announcement IS NOT NULL;
