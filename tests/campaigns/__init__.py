"""Long runs against the real system that count what must be zero; small slices of them are tests."""
