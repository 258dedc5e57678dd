"""Checks of the packages that `sync_assets[prod,kubernetes]` brings: versions, licences, known vulnerabilities.

    python .ci/dependencies.py constraints       print name==version of each, and what builds the project
    python .ci/dependencies.py licences          list their licences; exit status 1 if one is not allowed
    python .ci/dependencies.py audit FOUND       judge the JSON document of pip-audit; exit status 1 if there is a fix

Only the metadata of installed packages is read. What a wheel bundles (libpq, OpenSSL) is not seen.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IGNORED = Path(__file__).with_name("vulnerabilities.toml")
PROJECT = Path(__file__).parents[1] / "pyproject.toml"

EXTRAS = ("prod", "kubernetes")
"""Those of the image."""

ALLOWED = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"),
    # Weak copyleft: these packages are used unchanged, as libraries that can be replaced.
    *("MPL-2.0", "LGPL-2.1", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later"),
}
"""SPDX identifiers of licences that a runtime dependency may have."""

SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "gnu library or lesser general public license (lgpl)": "LGPL-3.0-or-later",
    "lgpl with exceptions": "LGPL-3.0-or-later",
}
"""What authors write in place of an SPDX identifier."""

REVIEWED: Mapping[str, str] = {}
"""Packages whose metadata names no licence that is recognised: by name, the licence as a person read it."""


def runtime(root: str = "sync_assets", extras: Iterable[str] = EXTRAS) -> Iterator[metadata.Distribution]:
    """Yield the installed packages that a package requires with these extras, directly or not, by name; not itself."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(root, extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found[name] = metadata.distribution(name)
        for text in found[name].requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(wanted.name), one) for one in ("", *wanted.extras)]
    del found[root]
    return iter([found[name] for name in sorted(found)])


def licence(about: Any, name: str = "") -> str:
    """Return the SPDX expression of a package's metadata, or the empty string if none is recognised."""
    if expression := about.get("License-Expression"):
        return expression
    told = (about.get("License") or "").strip().removesuffix(".")
    if told in ALLOWED or told.lower() in SPELLINGS:
        return SPELLINGS.get(told.lower(), told)
    kinds = [line.rpartition(" :: ")[2].lower() for line in about.get_all("Classifier") or () if "License ::" in line]
    if kinds and all(kind in SPELLINGS for kind in kinds):
        return " AND ".join(dict.fromkeys(SPELLINGS[kind] for kind in kinds))
    if " AND " in told or " OR " in told:
        return told
    return REVIEWED.get(name, "")


def allowed(expression: str) -> bool:
    """Return True if an SPDX expression can be met with allowed licences only. Parentheses are not understood."""
    return any(
        all(part.strip() in ALLOWED for part in re.split(r"\sAND\s", alternative))
        for alternative in re.split(r"\sOR\s", expression)
    )


def to_do(found: Mapping[str, Any], ignored: Mapping[str, Mapping[str, Any]], today: datetime.date) -> list[str]:
    """Return the vulnerabilities that have a fix and are not ignored, and the entries that ignore nothing any more.

    Args:
        found: The document of `pip-audit --format json`.
        ignored: By identifier: `reason`, and `until`, the last day on which the entry counts.
        today: The day of the check.
    """
    lines: list[str] = []
    asked = [one for one in found["dependencies"] if "vulns" in one]
    known = {name for one in asked for known in one["vulns"] for name in (known["id"], *known.get("aliases", ()))}
    for one in asked:
        for vulnerability in one["vulns"]:
            names = {vulnerability["id"], *vulnerability.get("aliases", ())}
            passed = any(ignored[name]["until"] >= today for name in names & ignored.keys())
            if (fixed := vulnerability["fix_versions"]) and not passed:
                lines.append(
                    f"{one['name']} {one['version']}: {vulnerability['id']}. Install {' or '.join(fixed)}, or give a "
                    f"reason in .ci/{IGNORED.name}."
                )
    if asked:
        lines += [
            f"{name} in .ci/{IGNORED.name} is not found any more. Take it out." for name in ignored.keys() - known
        ]
    return lines


def _audit(path: str) -> int:
    file = Path(path)
    found = json.loads(file.read_text("utf-8")) if file.is_file() and file.stat().st_size else {"dependencies": []}
    asked = [one for one in found["dependencies"] if "vulns" in one]
    if not asked:
        print("NOT CHECKED: the service of known vulnerabilities could not be asked about any package.")
        return 0
    for one in asked:
        for known in one["vulns"]:
            print(
                f"{one['name']} {one['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none'}"
            )
    lines = to_do(found, tomllib.loads(IGNORED.read_text("utf-8")), datetime.datetime.now(datetime.UTC).date())
    for line in lines:
        print(line, file=sys.stderr)
    skipped = len(found["dependencies"]) - len(asked)
    print(f"{len(asked)} packages looked up, {skipped} that the service does not have; {len(lines)} to do")
    return 1 if lines else 0


def _licences() -> int:
    refused = 0
    for package in runtime():
        name = canonicalize_name(package.name)
        expression = licence(package.metadata, name)
        right = allowed(expression)
        refused += not right
        print(f"{'' if right else 'NOT ALLOWED: '}{name} {package.version}: {expression or 'unknown'}")
    if refused:
        print("Replace these packages, or add what you have read to ALLOWED or REVIEWED.", file=sys.stderr)
    return 1 if refused else 0


def _constraints() -> int:
    for package in runtime():
        print(f"{canonicalize_name(package.name)}=={package.version}")
    print(*tomllib.loads(PROJECT.read_text("utf-8"))["build-system"]["requires"], sep="\n")
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["constraints"]:
            status = _constraints()
        case ["licences"]:
            status = _licences()
        case ["audit", found]:
            status = _audit(found)
        case _:
            print(__doc__, file=sys.stderr)
            status = 2
    sys.exit(status)
