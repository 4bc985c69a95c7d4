"""The web console: server-rendered pages over the same stores as the HTTP API."""
