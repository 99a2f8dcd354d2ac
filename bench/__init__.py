"""Benchmarks: figures as ratios against a named baseline in one run, never timed tests."""
