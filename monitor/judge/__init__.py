"""The judges. Pure: no clock, no input or output; times come as arguments."""
