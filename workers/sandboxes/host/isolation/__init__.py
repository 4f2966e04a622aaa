"""What stands between a sandbox and the machine: namespaces, its own file tree, cgroups."""
