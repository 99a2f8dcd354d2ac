"""`just bench-compare [rounds]`: our worker, API and publisher beside their alternatives.

__main__.py     the rounds and their results
arena.py        a virtual host and a database for each measurement
programs.py     the process of a contestant
workers.py      measures workers: from a filled queue to stored records
posters.py      measures our POST over other frameworks; api.py is the process of those
publishers.py   measures publishers: confirmed messages into a quorum queue
sending.py      64 callers at once; send.py is the process that they run in
collecting.py   fetches and stores a page, as a task of any framework would
on_*.py         one contestant each
report.py       the tables
"""
