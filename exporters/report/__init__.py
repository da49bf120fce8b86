"""Reports: the figures of a period, from the journal."""
