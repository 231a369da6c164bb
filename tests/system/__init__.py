"""System tests: real processes, real signals, real disks."""
