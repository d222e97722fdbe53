"""Models as data: programs of steps from features to scores, and what runs them without pandas or scikit-learn."""
