"""Figures: what Pullcord does in a second, beside its peers, with machine and settings."""
