"""The messages between server and worker: one documented, versioned vocabulary."""
