"""Benchmarks: ratios to a named baseline that is measured in the same run. No test is timed."""
