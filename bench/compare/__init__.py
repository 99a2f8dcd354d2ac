"""`just bench-compare [rounds]`: ours beside what a user would pick instead.

__main__.py     the rounds, and what comes of them
arena.py        a virtual host and a database for each measurement
programs.py     a contestant's process
workers.py      from a filled queue to stored records
publishers.py   confirmed messages into a quorum queue
sending.py      64 callers at once; send.py is the process they are in
collecting.py   a page fetched and stored, as a task of any framework would do it
on_*.py         the contestants, one each
report.py       the tables
"""
