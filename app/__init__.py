"""An inventory of web pages: a URL goes in over HTTP, its metadata is read back over HTTP.

1. Request   `app/api/routes.py`          validates the URL and makes it canonical (`app/urls.py`)
2. Publish   `app/broker/publisher.py`    sends a confirmed message to RabbitMQ
3. Queue     `app/broker/topology.py`     the queues, their limits and where they dead-letter
4. Consume   `app/worker/handlers.py`     one message in, one use case called, one acknowledgement
5. Fetch     `app/fetcher/client.py`      the page, through the guard, within its bounds
6. Store     `app/store/pages.py`         one record for each page in MongoDB
7. Read      `app/api/reading.py`         `GET /metadata` answers from the record

A caller may wait for its page: `app/waiting.py` asks the database for all who do.

`app/services.py` holds what happens between these steps, and in which order.
"""

__version__ = "0.1.0"
