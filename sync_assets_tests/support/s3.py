"""An S3 in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def s3_with_bucket(name: str) -> Iterator[Any]:
    """Start an S3 with one bucket, and return a client. boto3 takes most of a second to get ready."""
    import boto3
    from moto import mock_aws

    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=name)
        yield client
