-- Sealing: what has left for the evidence, who this journal is, and what the clock did.

-- Row numbers mean something only together with the journal they come from; a journal made anew gets another id.
CREATE TABLE identity (
    uid TEXT NOT NULL
) STRICT;
INSERT INTO identity VALUES (lower(hex(randomblob(8))));

-- A second copy of the chain of evidence: each line as it was signed. Rows are deleted only after their line is here.
CREATE TABLE segments (
    site TEXT NOT NULL,
    number INTEGER NOT NULL,
    line TEXT NOT NULL,                 -- without its line end
    recorded_ms INTEGER NOT NULL,
    dropped INTEGER NOT NULL DEFAULT 0, -- 1: its results are no longer in `results`
    PRIMARY KEY (site, number)
) STRICT;

-- The wall clock beside one that cannot be set: at a start, every hour, and when the two part.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    at_ms INTEGER NOT NULL,             -- wall clock
    steady_ms INTEGER NOT NULL,         -- since boot, sleep included
    step_ms INTEGER NOT NULL,           -- how far the wall clock was moved since the row before; 0 at a start
    cause TEXT NOT NULL                 -- start | hour | step
) STRICT;
