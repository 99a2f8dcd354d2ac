"""An inventory of web pages: a URL goes in over HTTP, its metadata is read back over HTTP.

1. Request   `app/api/routes.py`          validates the URL and makes it canonical (`app/urls.py`)
2. Publish   `app/broker/publisher.py`    sends a confirmed message to RabbitMQ
3. Queue     `app/broker/topology.py`     the queues, their limits and where they dead-letter
4. Consume   `app/worker/handlers.py`     one message in, one use case called, one acknowledgement
5. Fetch     `app/fetcher/client.py`      the page, through the guard, within its bounds
6. Extract   `app/extractor/document.py`  what the page says about itself: title, image, dates
7. Judge     `app/retries.py`             keep the result, try again later, or give up, without
             `app/redaction.py`           what the operator does not want to keep
8. Store     `app/store/pages.py`         one record for each page in MongoDB
9. Tell      `app/events.py`              an event of the outcome goes to whoever listens
10. Retry    `app/broker/publisher.py`    a request to be tried again waits in a queue of its delay
11. Read     `app/api/reading.py`         `GET /metadata` answers from the record

Whether a caller may do this is decided before it: `app/api/gate.py`, by its API key.

Many pages are asked for in one call by `app/api/batches.py`, and listed by `app/api/lists.py`. The
page for people, `/inventory`, is a client of these calls: `app/api/pages/static/inventory/`.

A caller may wait for its page: `app/waiting.py` asks the database for all who do.

`app/services.py` holds what happens between these steps, and in which order. How a process starts
and stops is in `app/runtime/process.py` and the two `application.py`.

The packages are the edges. The modules of this folder do no I/O, with one exception:
`app/assembly.py` builds the connections that both processes have. `services.py` and `events.py` are
the use cases; the others are the core, which knows neither.
"""

__version__ = "0.2.0.dev0"
