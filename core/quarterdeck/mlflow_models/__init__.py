"""MLflow's model folders: read into packages, and packages written as such folders. MLflow itself is not needed for either."""
