"""Measured breakdown points: the value of a setting from which rules no longer hold."""
