"""The worker: takes requests from the queues, has pages collected, settles the messages.

handlers.py     one message: its attempt, its retry or event, its log lines, its acknowledgement
slots.py        how many pages are fetched at once
held.py         room for messages that wait until the broker takes their retry
rejections.py   messages that cannot be handled
extraction.py   what a page says about itself is read as part of its fetch
watchdog.py     notices that no messages are sent any more
probes.py       health and metrics
application.py  puts all of it together; main.py starts it
"""
