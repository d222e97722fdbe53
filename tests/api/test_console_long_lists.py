"""Lists that are longer than a page of the console."""

from __future__ import annotations

import re
from pathlib import Path

from tests.campaigns.deployer_scale import Size, filled


def test_each_page_of_the_models_shows_its_part(tmp_path: Path) -> None:
    """Fifty a page, by name, none twice and none left out; a page beyond the end is the last one."""
    names = [f"model-{number:04}" for number in range(120)]
    with filled(tmp_path, Size(len(names), 1, 1, 1)) as here:
        for page, shown in {1: names[:50], 2: names[50:100], 3: names[100:], 9: names[100:]}.items():
            text = here.http.get(f"/models?page={page}").raise_for_status().text
            assert re.findall(r'href="/models/(model-\d+)"', text) == shown
            assert f"of {len(names)}" in text
