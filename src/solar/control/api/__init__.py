"""The management API of the gateway: hosts, their instances, and what became of requests."""
