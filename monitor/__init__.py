"""Schedules, judges and remembers."""
