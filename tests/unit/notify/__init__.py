"""Channels, tried on real receivers."""
