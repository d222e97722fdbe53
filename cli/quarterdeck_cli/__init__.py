"""The `quarterdeck` command and local mode's supervisor."""
