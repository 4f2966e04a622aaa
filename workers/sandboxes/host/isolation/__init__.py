"""The isolation of a sandbox from the machine: namespaces, its own file tree, cgroups."""
