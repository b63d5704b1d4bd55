"""Random scenarios, drawn from byzax's own description of what can be chosen, run and compared between executors."""
