"""The web UI: static files without a build step, on the HTTP API, and the site that serves both."""
