"""What holds for every test: the settings of whoever runs them are not there, and a slow machine fails nothing."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# How long examples take says nothing about the code on a busy machine; and a suite should say the same twice.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

for name in [name for name in os.environ if name.startswith("QUARTERDECK_")]:
    del os.environ[name]
