"""What all tests share: one hypothesis profile. Order is random, and warnings are errors (see pyproject.toml)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pullcord", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pullcord")
