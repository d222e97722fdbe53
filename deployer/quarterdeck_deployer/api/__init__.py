"""HTTP routers of the deployer; each translates between HTTP and one service, nothing else."""
