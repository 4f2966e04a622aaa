"""The agent's HTTP server: its routes, the roles that may call them, and errors as JSON."""
