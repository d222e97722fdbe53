"""From fitted estimators to programs: used when a package is built, never by a node."""
