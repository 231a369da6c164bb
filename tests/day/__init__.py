"""A simulated day of everything at once, with kills: `python -m tests.day` (`make day`)."""
