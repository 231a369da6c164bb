"""Crash after crash under a mixed load: `python -m tests.crash` (`make crash`)."""
