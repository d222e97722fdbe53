"""The deployer: registry, deployments with revisions, the reconcile loop, the plan server, keys, audit and their API."""
