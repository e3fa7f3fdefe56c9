"""The demo, smaller: it exits 0 only if all that it claims was checked, and leaves its figures.

It takes about two minutes: a whole stack, the real MovieLens set, and two nightly runs.
"""

import json
import subprocess
import sys
from pathlib import Path

from movierec_platform.config import inherited_environment

PORTS = {f"MOVIEREC_{name}_PORT": "0" for name in ("API", "METRICS", "DAGSTER", "BOLT", "AWS")}


def test_the_demo_shows_everything_and_leaves_its_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "movierec_platform.cli", "demo", "--events", "400", "--home", str(tmp_path / "home")],
        env={**inherited_environment(), **PORTS, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "home/demo.json").read_text())
    assert all(check["holds"] for check in figures["checks"])
    assert figures["posted"]["events"] == 400
    assert figures["rows"]["movies"] == 9_066
    assert figures["parity"] == {"pairs": figures["parity"]["pairs"], "differing_pairs": 0}
    assert 0 < figures["freshness"]["p50_s"] <= figures["freshness"]["p95_s"]
    assert "Recommendations for user 123 after those ratings (graph_cf)" in done.stdout
    assert not (tmp_path / "home/stack.env").exists()
