"""What is said where a Neo4j cannot be had: one sentence with what to install."""

import os
from pathlib import Path

import pytest

from movierec_platform.errors import ServerFailed
from movierec_platform.local.neo4j import Neo4jServer

JDK = "echo java.base@17.0.15; echo jdk.compiler@17.0.15"


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


@pytest.mark.parametrize(
    ("java", "mvn", "said"),
    [
        (None, None, r"there is no program `java`: install one .*openjdk-17-jdk-headless"),
        ("echo Unrecognized option >&2; exit 1", None, r"needs a JDK of at least Java 17, and .*/java is older"),
        ("echo java.base@11.0.2; echo jdk.compiler@11.0.2", None, r"/java is older"),
        ("echo java.base@21", None, r"/java has no compiler: install one"),
        (JDK, None, r"there is no program `mvn`: install it .*apt-get install maven"),
        (JDK, "echo '[INFO] x'; echo '[ERROR] No route to a mirror'; exit 1", r"fetch Neo4j: No route to a mirror$"),
        (JDK, "exit 1", r"fetch Neo4j: it said nothing$"),
    ],
    ids=["no java", "java 8", "java 11", "a JRE", "no mvn", "mvn fails", "mvn fails silently"],
)
def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, java: str | None, mvn: str | None, said: str
) -> None:
    programs = tmp_path / "bin"
    for name, script in (("java", java), ("mvn", mvn)):
        if script is not None:
            program(programs, name, script)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ServerFailed, match=said):
        Neo4jServer(tmp_path, 0).prepare()


def test_it_is_fetched_once_and_an_interrupted_download_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copies = 'for one in "$@"; do case "$one" in -DoutputDirectory=*) echo x >"${one#*=}/a.jar";; esac; done'
    program(tmp_path / "bin", "java", JDK)
    program(tmp_path / "bin", "mvn", f"echo x >>{tmp_path}/calls; {copies}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")
    server, told = Neo4jServer(tmp_path / "home", 0), []
    for folder in ("lib.part", "lib-of-another-pom"):
        (server.folder / folder).mkdir(parents=True)
        (server.folder / folder / "half.jar").touch()
    for _ in range(2):
        server.prepare(told.append)
    assert len(told) == 1
    assert (tmp_path / "calls").read_text() == "x\n"
    assert {str(path.relative_to(server.folder)) for path in server.folder.rglob("*")} == {
        server.library.name,
        f"{server.library.name}/a.jar",
    }
