"""The image: what the Dockerfile takes in, and what its entrypoint does with variables that stand for files."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from sync_assets_tests.flows.deploy.files import DEPLOY, ROOT

INSTRUCTIONS = [
    re.split(r"\s+", line.strip())
    for line in (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]
COPIED = [
    source
    for name, *arguments in INSTRUCTIONS
    if name == "COPY" and not arguments[0].startswith("--from=")
    for source in arguments[:-1]
]
IGNORED = [
    line
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
LET_THROUGH = [line[1:] for line in IGNORED if line.startswith("!")]
FILES = (
    "SYNC_ASSETS_CONFIG",
    "SYNC_ASSETS_CA_BUNDLE",
    "D365_CLIENT_CERTIFICATE",
    "CAMPAIGN_SFTP_PRIVATE_KEY",
    "CAMPAIGN_SFTP_HOST_KEY",
)


def last(instruction: str) -> list[str]:
    return [arguments for name, *arguments in INSTRUCTIONS if name == instruction][-1]


@pytest.mark.parametrize("source", COPIED)
def test_what_is_copied_is_there_and_let_through(source: str) -> None:
    assert (ROOT / source).exists()
    assert source in LET_THROUGH


def test_nothing_else_gets_near_the_image() -> None:
    assert IGNORED[0] == "*"
    assert sorted(LET_THROUGH) == sorted(COPIED)


def test_all_that_the_build_reads_is_copied_before() -> None:
    """`pyproject.toml` names the read-me and the licence."""
    [install] = [at for at, words in enumerate(INSTRUCTIONS) if "install" in words and "'.[prod]'" in words]
    before = [word for name, *words in INSTRUCTIONS[:install] if name == "COPY" for word in words]
    assert {"pyproject.toml", "README.md", "LICENSE", "sync_assets"} <= set(before)


def test_it_is_not_root_and_its_bases_are_slim() -> None:
    assert re.fullmatch(r"[1-9]\d+", last("USER")[0])
    bases = [arguments[0] for name, *arguments in INSTRUCTIONS if name == "FROM"]
    assert bases
    assert all(re.fullmatch(r"python:3\.1[1-3]-slim", base) for base in bases)


def test_no_variable_of_the_image_is_a_secret() -> None:
    assert not [name for name, *_ in INSTRUCTIONS if name == "ARG"]
    names = {word.partition("=")[0] for word in last("ENV")}
    assert names == {"PATH", "DAGSTER_HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def start(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    assert (DEPLOY / "entrypoint.sh").stat().st_mode & stat.S_IXUSR
    return subprocess.run(
        [DEPLOY / "entrypoint.sh", *command],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", FILES)
def test_a_text_becomes_a_private_file_and_leaves_the_environment(name: str) -> None:
    text = "-----BEGIN $(touch /tmp/no) `no`-----\n\\n \"quoted\" 'text'\n-----END-----"
    done = start("sh", "-c", f'echo "${name}"; stat -c %a "${name}"; cat "${name}"; env', **{f"{name}_TEXT": text})
    path, mode, rest = done.stdout.split("\n", 2)
    Path(path).unlink()
    Path(path).parent.rmdir()
    assert mode == "600"
    assert rest.startswith(text + "\n")
    assert f"{name}_TEXT" not in rest


def test_without_a_text_nothing_is_written_and_what_is_named_stays() -> None:
    names = dict.fromkeys(FILES, "/etc/sync_assets/mine")
    done = start("env", **names, CAMPAIGN_SFTP_PRIVATE_KEY_TEXT="")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name: found[name] for name in FILES} == names
    assert "folder" not in found


def test_the_command_takes_its_place_and_gives_the_exit_status() -> None:
    assert start("sh", "-c", "exit 3").returncode == 3
    done = start("sh", "-c", "echo $0 $1", "one two", "three")
    assert done.stdout == "one two three\n"
