"""Calls over HTTP without TLS, by one client for all tests of a process.

`httpx.get()` and its like make a client for each call, and each client reads all certificates anew,
which takes 20 ms of CPU time.
"""

import ssl

import httpx

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that are given addresses with `http://` only."""

# Without connections that are kept: a process under test may have closed one that is idle.
CLIENT = httpx.Client(
    timeout=30,
    trust_env=False,
    verify=NO_CERTIFICATES,
    limits=httpx.Limits(max_keepalive_connections=0),
)
