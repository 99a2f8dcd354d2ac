"""MongoDB: the connection, and the repository of page records."""
