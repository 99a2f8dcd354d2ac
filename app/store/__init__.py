"""MongoDB: the connection, and the repository of page records.

mongo.py       the connection, and the errors of the driver in our words
pages.py       the repository: what is done to the record of a page
claims.py      which delivery may fetch a page, and how its attempt ends
batching.py    operations that arrive at the same time are sent together
records.py     reads a record: which fields, and what they mean
progress.py    how far a request has come
awaited.py     which pages have ended that callers wait for
reads.py       notes that pages are read, for their retention
listing.py     lists of records
outbox.py      events of pages, and those yet to be published
keys.py        the API keys
indexes.py     the indexes

For the commands of `pagemeta`, which do one thing at a time: `blocking.py`, `inspection.py` for
`doctor`, `rereading.py` for `reextract`; and for `migrate`, `respelling.py`, `undated.py` and
`unlisted.py`.
"""
