"""Telling people and programs what became of runs: what is told, to whom, and how it is sent."""
