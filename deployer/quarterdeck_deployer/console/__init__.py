"""The web console: complete HTML from the server; scripts only refresh states and mark what is busy."""
