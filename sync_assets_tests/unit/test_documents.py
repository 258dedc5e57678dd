"""Code names documents, sections of them and modules that exist; documents link files that exist.

A citation is the path of a page in the package and its sections: `docs/dev/references/dataverse.md 2.4`. In a file that
cites one page only, `section 2.4` means a section of that page.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sync_assets"
DOCS = PACKAGE / "docs"
CODE = sorted(
    path
    for folder in (PACKAGE, ROOT / "sync_assets_tests")
    for path in folder.rglob("*.py")
    if path != Path(__file__) and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)

_NUMBER = r"(?:\d+(?:\.\d+)*|[A-F])\b"
_BLANK = r"\s+(?:#\s+)?"
CITATION = re.compile(
    rf"(?P<page>docs/[\w/-]+\.md)(?P<sections>(?:{_BLANK}{_NUMBER}(?:(?:,|{_BLANK}to|,?{_BLANK}and){_BLANK}{_NUMBER})*)?)"
)
BARE_SECTION = re.compile(rf"\b[Ss]ections?{_BLANK}(?P<section>\d+(?:\.\d+)*)\b")
HEADING = re.compile(rf"^#+ (?P<section>{_NUMBER})\.? ", re.MULTILINE)
DOCUMENT = re.compile(r"(?<![\w/.:-])[\w./-]*\w\.md\b(?!\()")
LINK = re.compile(r"\]\((?P<inline>[^)\s]+)\)|^\[[^\]]+\]: (?P<reference>\S+)", re.MULTILINE)
TEST = re.compile(r"`(?P<file>(?:unit|integration|flows|property)/[\w/]+\.py)::(?P<name>test_\w+)`")
MODULE = re.compile(r"(?<![\w/.-])(?:\w+/)*\w+\.py\b")
CITED_TEST = re.compile(r"\w+\.py::\w+")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MOST_WORDS = 1250
"""Of a page, without its tables: some five minutes."""
LOOKED_UP = {"sync_assets/docs/runbooks.md", "sync_assets/docs/dev/data-flows.md"}
"""Pages of sections of which a reader needs one."""
OTHER_SOURCES = ("draft-ietf-secsh-filexfer",)
"""Documents outside of the repository whose sections a file may cite by number."""


class Citation(NamedTuple):
    """One section of a page, or the page itself (`section` is empty)."""

    page: str
    section: str


def citations(text: str) -> list[Citation]:
    """Return the citations of a text. Of a range, its first and last section."""
    result: list[Citation] = []
    for match in CITATION.finditer(text):
        sections = re.findall(_NUMBER, match["sections"])
        result += [Citation(match["page"], section) for section in sections or [""]]
    return result


def bare_sections(text: str) -> list[Citation]:
    """Return the sections that a text cites without a page; the page is empty if the text cites none, or several."""
    if any(source in text for source in OTHER_SOURCES):
        return []
    pages = {match["page"] for match in CITATION.finditer(text) if "references" in match["page"]}
    page = pages.pop() if len(pages) == 1 else ""
    return [Citation(page, match["section"]) for match in BARE_SECTION.finditer(text)]


def headings(page: Path) -> set[str]:
    """Return the numbers and letters of a page's headings."""
    return {match["section"] for match in HEADING.finditer(page.read_text("utf-8"))}


def documents(text: str) -> list[str]:
    """Return the names of Markdown files in a text, those in URLs excepted."""
    return DOCUMENT.findall(re.sub(r"https?://\S+", "", text))


def modules(code: str) -> set[str]:
    """Return the names of Python files in the docstrings of a module."""
    if not MODULE.search(code):  # most name none, and need not be parsed
        return set()
    docstrings = [
        node.value.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return {name for text in docstrings for name in MODULE.findall(text)}


def exists(name: str, beside: Path) -> bool:
    """Return True if a document is in `docs` or `docs/dev`, in the folder of the code, or in one above it."""
    folders = [PACKAGE, DOCS, DOCS / "dev", *beside.relative_to(ROOT).parents]
    return any((ROOT / folder / name).is_file() for folder in folders)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def links(text: str) -> Iterator[str]:
    """Yield the links of a page that lead to files of the repository, without their anchors."""
    for match in LINK.finditer(FENCED.sub("", text)):
        target = (match["inline"] or match["reference"]).partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            yield target


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_section_that_code_cites_exists() -> None:
    missing: list[str] = []
    for path in CODE:
        text = path.read_text("utf-8")
        for page, section in citations(text) + bare_sections(text):
            file = PACKAGE / page
            if not page:
                missing.append(f"{named(path)}: section {section} of which page?")
            elif file.is_file() and section and section not in headings(file):
                missing.append(f"{named(path)}: {page} has no section {section}")
    assert missing == []


def test_every_document_that_code_names_exists() -> None:
    missing = {
        f"{named(path)}: {name}"
        for path in CODE
        for name in documents(path.read_text("utf-8"))
        if not exists(name, path)
    }
    assert sorted(missing) == []


def test_every_module_that_a_docstring_names_exists() -> None:
    known = [f"/{named(path)}" for path in [*CODE, Path(__file__), *ROOT.glob(".ci/*.py")]]
    missing = {
        f"{named(path)}: {name}"
        for path in CODE
        for name in modules(path.read_text("utf-8"))
        if not any(file.endswith(f"/{name}") for file in known)
    }
    assert sorted(missing) == []


def test_every_link_of_a_page_leads_to_a_file() -> None:
    missing = [
        f"{named(page)}: {target}"
        for page in pages()
        for target in links(page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert missing == []


def test_no_number_of_a_heading_is_used_twice_in_a_page() -> None:
    for page in DOCS.joinpath("dev", "references").glob("*.md"):
        numbers = [match["section"] for match in HEADING.finditer(page.read_text("utf-8"))]
        assert len(numbers) == len(set(numbers)), named(page)


def words(text: str) -> int:
    """Count the words of a page outside of tables, blocks of code and definitions of links."""
    prose = re.sub(r"^(?:\||    |\[[^\]]+\]: ).*$", "", FENCED.sub("", text), flags=re.MULTILINE)
    return len(prose.split())


def test_each_page_is_read_in_five_minutes_or_is_a_table() -> None:
    pages_to_read = [ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("dev/*.md"), *DOCS.glob("dev/decisions/*.md")]
    result = {named(page): words(page.read_text("utf-8")) for page in pages_to_read}
    assert {page: count for page, count in result.items() if count > MOST_WORDS and page not in LOOKED_UP} == {}


def test_the_architecture_names_each_package() -> None:
    table = rows(DOCS / "dev" / "architecture.md", "| package | holds |")
    result = {name for first, *_ in table for name in re.findall(r"`(\w+)`", first)}
    assert result == {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}


def test_each_package_names_the_module_to_read_first() -> None:
    silent = [
        named(path)
        for path in PACKAGE.glob("*/__init__.py")
        if len(list(path.parent.glob("*.py"))) > 2 and not re.search(r"start\s+reading\s+here", path.read_text("utf-8"))
    ]
    assert silent == []


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the table that begins with that heading."""
    table = page.read_text("utf-8").partition(f"\n{heading}\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[1:]]


def test_every_test_that_a_page_names_exists() -> None:
    missing: list[str] = []
    for page in pages():
        text = page.read_text("utf-8")
        named_tests = [(match["file"], match["name"]) for match in TEST.finditer(text)]
        assert len(named_tests) == len(CITED_TEST.findall(text)), f"{named(page)}: a test is written in another way"
        for file, name in named_tests:
            path = ROOT / "sync_assets_tests" / file
            if not path.is_file() or not re.search(
                rf"^\s*(?:async )?def {name}\(", path.read_text("utf-8"), re.MULTILINE
            ):
                missing.append(f"{named(page)}: {file}::{name}")
    assert missing == []


def test_each_measure_of_the_security_page_names_the_tests_that_hold_it() -> None:
    measures = {subject for subject, _ in rows(DOCS / "security.md", "| subject | measure |")}
    claims = rows(DOCS / "dev" / "security-tests.md", "| subject | claim | held by |")
    assert len(measures) > 10
    assert {subject for subject, *_ in claims} == measures | {"privacy"}
    assert [claim for _, claim, tests in claims if not TEST.search(tests)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(docs/dev/references/x.md 2.4)", [("docs/dev/references/x.md", "2.4")]),
        ("docs/x.md 1, 2.1 and 3.", [("docs/x.md", "1"), ("docs/x.md", "2.1"), ("docs/x.md", "3")]),
        ("docs/x.md 2.1 to 2.3 and 7, item 5.", [("docs/x.md", "2.1"), ("docs/x.md", "2.3"), ("docs/x.md", "7")]),
        ("docs/x.md\n    # 4: limits", [("docs/x.md", "4")]),
        ("docs/x.md 8. The six layouts", [("docs/x.md", "8")]),
        ("docs/x.md C", [("docs/x.md", "C")]),
        ("docs/x.md names 30 days", [("docs/x.md", "")]),
    ],
)
def test_a_citation_is_read_with_its_sections(text: str, expected: list[tuple[str, str]]) -> None:
    assert citations(text) == expected
