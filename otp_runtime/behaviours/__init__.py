"""Floor 3: behaviours. A loop of the library's and a module of callbacks of the user's."""
