"""Floor 1, decisions: values in, values out; no clock, descriptor, process or thread."""
