"""The operator: turns ModelDeployment resources of a Kubernetes cluster into serving nodes."""
