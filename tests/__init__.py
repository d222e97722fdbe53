"""The tests. A package, so that `from tests.support import eventually` means this folder and nobody else's."""
