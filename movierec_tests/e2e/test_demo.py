"""The demo, smaller: it exits 0 only if all that it claims was checked, and leaves its figures.

It takes about a minute: a whole stack and two nightly runs over a small set; `--long` has it as users have it, over the
real one.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from movierec_platform.config import inherited_environment
from movierec_tests.archives import MOVIES, two_tastes

pytestmark = pytest.mark.thorough("the demo")

PORTS = {f"MOVIEREC_{name}_PORT": "0" for name in ("API", "METRICS", "DAGSTER", "BOLT", "AWS")}


def test_the_demo_shows_everything_and_leaves_its_figures(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    real = request.config.getoption("--long")
    archive = {} if real else {"MOVIEREC_ARCHIVE": str(two_tastes(tmp_path))}
    user, movies = ("123", 9_066) if real else ("1", MOVIES)
    asked = ["--events", "400", "--user", user, "--home", str(tmp_path / "home")]
    done = subprocess.run(
        [sys.executable, "-m", "movierec_platform.cli", "demo", *asked],
        env={**inherited_environment(), **PORTS, **archive, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "home/demo.json").read_text())
    assert all(check["holds"] for check in figures["checks"])
    assert figures["posted"]["events"] == 400
    assert figures["rows"]["movies"] == movies
    assert figures["parity"] == {"pairs": figures["parity"]["pairs"], "differing_pairs": 0}
    assert 0 < figures["freshness"]["p50_s"] <= figures["freshness"]["p95_s"]
    assert f"Recommendations for user {user} after those ratings (graph_cf)" in done.stdout
    assert not (tmp_path / "home/stack.env").exists()
