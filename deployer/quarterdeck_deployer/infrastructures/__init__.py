"""Where deployments run: one interface, and one implementation for everything that runs by plans and reports of nodes."""
