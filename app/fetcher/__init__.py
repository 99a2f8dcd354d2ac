"""Fetches web pages from the public Internet, and never from the network the worker is in.

`client.py` lists the steps of a fetch and the module of each.
"""
