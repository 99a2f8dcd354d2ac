"""RabbitMQ: the message contract, the queues, and a publisher that knows what was confirmed."""
