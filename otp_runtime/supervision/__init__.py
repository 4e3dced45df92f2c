"""Floor 4: supervisors. What the pure core decides is done here, by OS processes that run library code only."""
