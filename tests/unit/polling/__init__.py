"""What workers do for triggers: declarations, polls, mappings, marks."""
