"""Values that travel between processes, and the codec that carries them.

Nothing here knows a descriptor, a clock or a process.
"""
