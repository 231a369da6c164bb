"""What must always be true of a store, as queries: what `pullcord doctor --deep` asks."""
