"""What holds for every test: the settings of whoever runs them are not there."""

from __future__ import annotations

import os

for name in [name for name in os.environ if name.startswith("QUARTERDECK_")]:
    del os.environ[name]
