"""Floor 5: registries and process groups. A table in the node's directory that everybody reads without asking."""
