"""What must be so before a version comes to a stage: facts are read first, and each gate judges them by a pure function."""
