"""Optional parts: encryption, a codec server, Pydantic models, OpenTelemetry. Import the module that is wanted."""
