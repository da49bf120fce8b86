"""The hall: the command line and the wiring of all parts. A reader starts here, at `daemon.py`."""
