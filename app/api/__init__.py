"""HTTP in front: ask for pages, read them back, see how the service is.

The way of a request, and where its status is decided:

protocol.py      reads the request within bounds: 431
middleware.py    its id, its log line, the size of its body: 413
gate.py          whose key it has, and what that permits: 401, 403, 429
routes.py        the routes of `/metadata`: 202 of a POST, 204 of a DELETE
batches.py       many pages in one call: 207
lists.py         the list of pages: 200
reading.py       a page that is read: 200, 304
answers.py       a page that has not ended: 202; room for large answers
problems.py      every error: 4xx and 5xx
probes.py        health and metrics: 200, 503
docs.py          the pages for people

What these use:

access.py        which scope a route needs
known_keys.py    the API keys that a process knows
limits.py        how many requests a minute are answered
dependencies.py  what routes ask for in their signatures
preferences.py   `Prefer: wait=N`
selection.py     `fields=…`
negotiation.py   entity tags, and which form of an answer is wanted
forms.py         a page as JSON, or its source as text
compression.py   gzip
schemas.py       what is received and sent
openapi.py       how the OpenAPI document describes it, with examples.py

application.py   puts all of it together; __main__.py and main.py start it
"""
