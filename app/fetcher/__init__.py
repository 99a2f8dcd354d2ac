"""One web page at a time, fetched from wherever its URL leads without reaching inside.

`client.py` tells the story; the other modules are its steps.
"""
