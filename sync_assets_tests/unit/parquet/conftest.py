"""One S3 bucket for each test module, and a prefix of it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from sync_assets_tests.support.parquet_parts import BUCKET
from sync_assets_tests.support.s3 import s3_with_bucket


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of an S3 with one bucket, for all tests."""
    with s3_with_bucket(BUCKET) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    """A part of the bucket for this test alone."""
    return f"sync/{uuid4()}"
