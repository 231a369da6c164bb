"""The worker's side: loads a code location, validates inputs, executes flows. Imports `core` and `wire` only."""
