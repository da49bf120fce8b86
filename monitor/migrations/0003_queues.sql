-- What the judges of congestion remember of each check's path, written at the end of each bin.

CREATE TABLE queues (
    site TEXT NOT NULL,
    check_name TEXT NOT NULL,
    body TEXT NOT NULL,                 -- JSON of monitor.judge.congestion.Judge
    PRIMARY KEY (site, check_name)
) STRICT;
