"""HTTP in front: ask for pages, read them back, see how the service is."""
