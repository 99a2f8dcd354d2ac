"""Tools for developing and demonstrating the service: private servers, demo, generated specs."""
