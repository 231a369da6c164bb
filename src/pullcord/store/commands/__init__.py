"""The write operations, each one vectorised: many commands, few statements."""
