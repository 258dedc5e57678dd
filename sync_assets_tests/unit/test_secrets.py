"""What never stands in the repository: keys, tokens, hosts of package registries, lock files, paths of a machine.

The patterns are written so that they do not find themselves, and each is shown by an example made of two halves.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PATTERNS = {
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}",
    "a token (JWT)": r"\beyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{10,}",
    "a secret of an Entra application": r"\b[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",
    "a secret of Adobe": r"\bp8e-[A-Za-z0-9_-]{32}\b",
    "a key of AWS": r"\b(?:AKIA|ASIA)(?![0-9A-Z]*EXAMPLE)[0-9A-Z]{16}\b",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})",
    "a token of a chat or a registry": r"\b(?:xox[abprs]-[A-Za-z0-9-]{20,}|npm_[A-Za-z0-9]{36}"
    r"|pypi-[A-Za-z0-9_-]{40,})",
    "a password in a URL": r"\b(?!postgresql)[a-z][a-z0-9+]*://[^\s/:@\"'{}]+:[^\s/@\"'{}$]{8,}@[a-z0-9.-]+\.[a-z]{2,}\b",
    "a host of a package registry": r"\b(?:pypi\.org|pythonhosted\.org|registry\.npm[a-z]*\.org"
    r"|registry\.yarn[a-z]*\.com|[a-z0-9-]*(?:artifactory|nexus|devpi)[a-z0-9-]*\.[a-z0-9.-]+)",
    "the address of a package registry": r"(?:index|find)[-_](?:url|links)\s*[= ]\s*\S|\bPIP_INDEX[_]URL\b",
    "a path of somebody's machine": r"(?<![\w.])/(?:home|Users)/[a-z]\w+/"
    r"|(?<![\w.])/(?:root|work|tmp/wt)/[a-z]\w*|[A-Z]:\\Users\\",
}
EXAMPLES = {
    "a private key": ("-----BEGIN OPENSSH PRIVATE", " KEY-----\n" + "b3BlbnNz" * 8),
    "a token (JWT)": ("eyJhbGciOiJIUzI1NiIsInR5cCI6", ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"),
    "a secret of an Entra application": ("abc8", "Q~" + "x" * 34),
    "a secret of Adobe": ("p8e", "-" + "A1b2" * 8),
    "a key of AWS": ("AKIA", "IOSFODNN7ABCDEFG"),
    "a token of GitHub": ("ghp_", "a1B2" * 9),
    "a token of a chat or a registry": ("xoxb-", "1234567890-abcdefghijk"),
    "a password in a URL": ("https://me:", "correcthorse@example.com"),
    "a host of a package registry": ("https://pypi", ".org/simple"),
    "the address of a package registry": ("--index", "-url https://example.com"),
    "a path of somebody's machine": ("/home", "/ada/project"),
}
LEFT_OUT = re.compile(
    r"(?:^|/)(?:[^/]*\.lock|package-lock\.json|pnpm-lock\.yaml|\.npmrc|\.pypirc|\.netrc|pip\.conf|id_[a-z0-9]+(?:\.pub)?"
    r"|[^/]*\.(?:env|pem|key|p12|pfx|sqlite|db|parquet))$"
)
"""Names of files that do not belong here."""


def tracked() -> list[str]:
    """Files that are in the repository or about to be."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        completed = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no working copy of the repository")
    return [name for name in completed.decode().split("\0") if name and (ROOT / name).is_file()]


def suspicious() -> list[str]:
    """Files with a line that may hold what is looked for: git searches them in a hundredth of Python's time."""
    lines = PATTERNS | {
        "a private key": "-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----",
        "the address of a package registry": PATTERNS["the address of a package registry"].replace(r"\S", r"(?:\S|$)"),
    }
    asked = ["git", "grep", "--untracked", "-lzP", *(word for pattern in lines.values() for word in ("-e", pattern))]
    completed = subprocess.run(asked, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert completed.returncode in (0, 1), completed.stderr
    return [name for name in completed.stdout.decode().split("\0") if name]


def found_in(text: str) -> list[str]:
    return [what for what, pattern in PATTERNS.items() if re.search(pattern, text)]


def test_no_file_holds_a_secret_or_a_path_of_a_machine() -> None:
    assert "README.md" in tracked()
    result = {name: what for name in suspicious() if (what := found_in((ROOT / name).read_text("utf-8", "replace")))}
    assert result == {}


def test_no_file_is_one_that_does_not_belong_here() -> None:
    assert [name for name in tracked() if LEFT_OUT.search(name)] == []


@pytest.mark.parametrize("what", PATTERNS)
def test_each_forbidden_text_would_be_noticed(what: str) -> None:
    assert what in found_in(f"x = '{''.join(EXAMPLES[what])}'")
    assert found_in(" ".join(EXAMPLES[what])) == []


@pytest.mark.parametrize(
    "name", ["uv.lock", "a/package-lock.json", ".npmrc", "home/id_ed25519", "sandbox.env", "x/k.pem"]
)
def test_files_that_do_not_belong_here_would_be_found(name: str) -> None:
    assert LEFT_OUT.search(name)
