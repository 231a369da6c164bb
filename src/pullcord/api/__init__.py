"""The HTTP API. The only place that knows HTTP status codes."""
