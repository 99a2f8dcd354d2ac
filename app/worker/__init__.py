"""The worker: takes requests from the queues, has pages collected, settles the messages."""
