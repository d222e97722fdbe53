"""A real one-node Kubernetes of our own, and the tests that run on it."""
