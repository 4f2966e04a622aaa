"""The embedded stack: every part of the service as a child process, its state under one folder."""
