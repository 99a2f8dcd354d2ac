"""`pagemeta`, the operator's command line: a client of the API, the broker and the database."""
