-- Why services fail together: JSON of monitor.model.Cause, '' for an incident without one.

ALTER TABLE incidents ADD COLUMN cause TEXT NOT NULL DEFAULT '';
