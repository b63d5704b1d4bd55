"""The simulator: scenarios, the pure core, and three executors that replay a timeline with it."""
