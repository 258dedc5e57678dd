"""The fixture of captures that read a few rows in pages of four."""

from collections.abc import Iterator

import pytest

from sync_assets_tests.support.table_reading import Reading, reading_of_small_pages


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    with reading_of_small_pages(tmp_path_factory.mktemp("reading")) as one:
        yield one
