"""RabbitMQ: the message contract, the queues, and a publisher that waits for confirms.

messages.py      the message that travels through the queues
topology.py      the queues and their arguments, as data; their declaration
events.py        the message that tells listeners of an event
event_stream.py  following the events live, for the command line
operations.py    what each process publishes and consumes, as FastStream publishers and subscribers
cluster.py       the hosts in BROKER_URL, and a connection to the first one that answers
connection.py    the long-lived connection of a process: opened with backoff, then kept open
pipelined.py     the connection of both: messages go out together, and its socket can be dropped
publisher.py     publishing: a message is confirmed by the broker, or an error says why not
queues.py        how many messages and consumers each queue has
dead_letters.py  reading, sending back and discarding the messages of `metadata.dead`
private_api.py   each use of what FastStream and aiormq do not offer publicly
"""
