"""What holds for every test: the settings of whoever runs them are not there, and a slow machine fails nothing."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.support import ROOT

# How long examples take says nothing about the code on a busy machine; and a suite should say the same twice.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

for name in [name for name in os.environ if name.startswith("QUARTERDECK_")]:
    del os.environ[name]

# Models of the tests' own classes are loaded in processes that find `tests` from wherever they run, also with PYTHONSAFEPATH.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
