"""Programs for people who work on Quarterdeck itself; none of it is installed."""
