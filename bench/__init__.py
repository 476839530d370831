"""Benchmarks: quality judged by networks of their own, and speed against peers."""
