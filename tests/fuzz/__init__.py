"""Every parser of bytes from the wire, for random bytes and for a fuzzer that is led by coverage.

`python -m tests.fuzz --help` runs the fuzzer; `tests/probes/test_parsers.py` takes the same table to hypothesis.
"""
