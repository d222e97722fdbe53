"""Measures ours and theirs in one run: `make bench`. docs/concepts/performance.md says what, how, and what was found."""
