"""The whole walkthrough on a running service: `flow-nexus train` and `flow-nexus demo` share it."""
