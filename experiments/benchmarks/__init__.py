"""Measurements that a person runs by hand; none of them is a test."""
