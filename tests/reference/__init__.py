"""A reference of the whole of training in float64 and NumPy, which shares no code with byzax but for what is drawn."""
