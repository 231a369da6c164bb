"""Code that `python -m bench.triggers` serves. The environment says how much of it there is."""
