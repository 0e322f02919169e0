"""The page of architectures tried has what the installed timm and torchvision offer."""

import re

from benchmarks.breadth import PAGE, models

from checkout import ROOT


def test_the_page_lists_every_architecture():
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\w+) \| `(\w+)` \| (\d+) × \d+ \|", page, re.MULTILINE)
    assert [(source, name, int(side)) for source, name, side in listed] == list(models())
    assert "wrong by" not in page
