"""Other orchestrators, measured on the same machine as Pullcord. Run `python -m bench.peers` from the repository."""
