"""Long-lived duties, one module each, all with the same `start` and `stop`."""
