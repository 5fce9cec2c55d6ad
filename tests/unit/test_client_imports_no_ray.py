"""A notebook without Ray can use the client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "code",
    [
        "finstage.Client('http://x')",
        "finstage.StreamClient('http://x')",
        "finstage.FinstageError, finstage.SymbolUnknown",
        "import pipelines.driver.market",
        "finstage.connect()",
    ],
)
def test_ray_is_not_imported(code: str) -> None:
    check = "assert not [name for name in sys.modules if name.split('.')[0] == 'ray']"

    subprocess.run(
        [sys.executable, "-c", f"import sys, finstage; {code}; {check}"], cwd=ROOT, check=True
    )
