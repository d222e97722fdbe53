"""The real system, started by `quarterdeck up` in a folder of its own."""
