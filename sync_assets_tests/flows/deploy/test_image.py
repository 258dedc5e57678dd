"""The image: what the Dockerfile takes in, and what its entrypoint does with variables that stand for files."""

import re
import stat
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sync_assets_tests.flows.deploy.files import DEPLOY, ROOT, read
from sync_assets_tests.flows.deploy.services import NAMESPACE, namespaces_can_be_made

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
    "PGSSLROOTCERT",
    "SYNC_ASSETS_LEDGER_KEY_FILE",
)
SECRETS = (
    "D365_CLIENT_SECRET",
    "D365_CLIENT_CERTIFICATE_PASSWORD",
    "CAMPAIGN_CLIENT_SECRET",
    "CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE",
    "SYNC_ASSETS_LEDGER_URL",
    "SYNC_ASSETS_ALERT_WEBHOOK",
    "SYNC_ASSETS_SMTP_PASSWORD",
    "SYNC_ASSETS_HEARTBEAT_URL",
)


def last(instruction: str) -> list[str]:
    return [arguments for name, *arguments in INSTRUCTIONS if name == instruction][-1]


def test_copied_files_exist_no_other_file_gets_into_the_build_and_all_that_it_reads_is_copied_before() -> None:
    """`pyproject.toml` names the read-me and the licence."""
    assert [source for source in COPIED if not (ROOT / source).exists()] == []
    assert IGNORED[0] == "*"
    assert sorted(LET_THROUGH) == sorted(COPIED)
    [install] = [at for at, words in enumerate(INSTRUCTIONS) if "--no-build-isolation" in words]
    before = [word for name, *words in INSTRUCTIONS[:install] if name == "COPY" for word in words]
    assert {"pyproject.toml", "README.md", "LICENSE", "sync_assets"} <= set(before)


def test_it_is_not_root_and_its_bases_are_slim() -> None:
    assert re.fullmatch(r"[1-9]\d+", last("USER")[0])
    assert [arguments[0] for name, *arguments in INSTRUCTIONS if name == "FROM"] == ["${PYTHON}", "${PYTHON}"]
    assert re.fullmatch(r"PYTHON=python:3\.1[1-3]-slim", last("ARG")[0])


def pinned() -> dict[str, list[str]]:
    """The hashes of each `name==version` in the constraints."""
    text = (DEPLOY / "constraints.txt").read_text("utf-8").replace("\\\n", " ")
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if not line.startswith("#")}


def test_the_versions_in_it_are_those_that_were_tested_and_no_source_package_is_built() -> None:
    [install] = [words for _, *words in INSTRUCTIONS if "constraints.txt" in words and "install" in words]
    assert {"--require-hashes", "--requirement", "--only-binary", ":all:"} <= set(install)
    versions = dict(line.split("==") for line in pinned())
    build: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    for text in (*(metadata.requires("sync_assets") or ()), *build):
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": name}) for name in ("prod", "kubernetes")):
            assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text


def test_its_build_downloads_hashed_packages_only_and_nothing_else_stands_in_the_constraints() -> None:
    installs = [
        set(words) for name, *words in INSTRUCTIONS if name == "RUN" and "install" in words and "pip" in str(words)
    ]
    of_packages, of_the_project = installs
    assert {"--require-hashes", "--requirement"} <= of_packages
    assert {"--no-deps", "--no-build-isolation", "."} <= of_the_project
    for line, hashes in pinned().items():
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+!-]+", line)
        assert hashes, line
        assert [one for one in hashes if not re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one)] == []


def test_no_variable_of_the_image_is_a_secret() -> None:
    assert [words[0].partition("=")[0] for name, *words in INSTRUCTIONS if name == "ARG"] == ["PYTHON"]
    names = {word.partition("=")[0] for word in last("ENV")}
    assert names == {"PATH", "DAGSTER_HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "SYNC_ASSETS_OWN_PROCESS"}


def start(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    assert (DEPLOY / "entrypoint.sh").stat().st_mode & stat.S_IXUSR
    return subprocess.run(
        [DEPLOY / "entrypoint.sh", *command],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "name"), [*((f"{name}_TEXT", name) for name in FILES), *((name, f"{name}_FILE") for name in SECRETS)]
)
def test_a_text_or_secret_becomes_a_private_file_and_leaves_the_environment(variable: str, name: str) -> None:
    text = "-----BEGIN $(touch /tmp/no) `no`-----\n\\n \"quoted\" 'text'\n-----END-----"
    done = start("sh", "-c", f'echo "${name}"; stat -c %a "${name}"; cat "${name}"; env', **{variable: text})
    path, mode, content = done.stdout.split("\n", 2)
    Path(path).unlink()
    Path(path).parent.rmdir()
    assert mode == "600"
    assert content.startswith(text + "\n")
    assert (content.count(text), f"{variable}=" in content) == (1, False)


@pytest.mark.skipif(not namespaces_can_be_made(), reason="needs the right to make a process namespace")
def test_process_1_of_a_container_has_no_secret_in_its_environment(tmp_path: Path) -> None:
    """Every process of the container's user can read it there. In place of tini a script that stays, as tini does."""
    (tmp_path / "tini").write_text('#!/bin/sh\nshift\n"$@"\n')
    (tmp_path / "tini").chmod(0o700)
    secrets = dict.fromkeys((*SECRETS, *(f"{name}_TEXT" for name in FILES)), "hunter2")
    script = "cat /proc/1/environ; echo; cat /proc/1/comm /proc/self/environ; rm -r $(dirname $D365_CLIENT_SECRET_FILE)"
    done = subprocess.run(
        [*NAMESPACE, DEPLOY / "entrypoint.sh", "sh", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **secrets},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "D365_CLIENT_SECRET_FILE=/" in done.stdout.splitlines()[0]
    assert "\ntini\n" in done.stdout
    assert "hunter2" not in done.stdout


def test_no_init_process_of_the_platform_stands_before_the_entrypoint_and_the_image_has_one() -> None:
    compose, services = read(DEPLOY / "docker-compose.yaml")["services"], (DEPLOY / "aws" / "services.yaml").read_text()
    assert {name for name, service in compose.items() if service.get("init")} == {"egress"}
    assert "InitProcessEnabled: true" not in services
    assert any("tini" in words and "apt-get" in words for name, *words in INSTRUCTIONS if name == "RUN")


def test_every_secret_that_the_program_reads_from_a_file_is_one_of_them() -> None:
    source = (ROOT / "sync_assets" / "config" / "environment.py").read_text("utf-8")
    assert set(re.findall(r'secret(?:_url)?\("([A-Z0-9_]+)"\)', source)) <= set(SECRETS)


def test_a_secret_beside_its_file_is_left_for_the_program_to_refuse() -> None:
    done = start("env", D365_CLIENT_SECRET="hunter2", D365_CLIENT_SECRET_FILE="/etc/secret")
    assert {"D365_CLIENT_SECRET=hunter2", "D365_CLIENT_SECRET_FILE=/etc/secret"} <= set(done.stdout.splitlines())


def test_without_a_text_nothing_is_written_and_named_files_stay() -> None:
    names = dict.fromkeys(FILES, "/etc/sync_assets/mine")
    done = start("env", **names, CAMPAIGN_SFTP_PRIVATE_KEY_TEXT="")
    result = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name: result[name] for name in FILES} == names
    assert "folder" not in result


def test_the_command_takes_its_place_gives_the_exit_status_and_creates_private_files_and_no_core_dump() -> None:
    assert start("sh", "-c", "umask; ulimit -c; ulimit -Hc").stdout.split() == ["0077", "0", "0"]
    assert start("sh", "-c", "exit 3").returncode == 3
    done = start("sh", "-c", "echo $0 $1", "one two", "three")
    assert done.stdout == "one two three\n"
