"""The embedded stack: every service is a child process, and one folder holds all state."""
