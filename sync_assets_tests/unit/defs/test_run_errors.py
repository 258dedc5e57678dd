"""Ticks of sensors that cannot go on: Dagster stores one sentence, keeps the cursor, and tries again."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin
from dagster._core.remote_representation.external_data import SensorExecutionErrorSnap
from dagster._grpc.impl import get_external_sensor_execution
from dagster_shared.error import SerializableErrorInfo

from sync_assets.defs.run_errors import one_sentence
from sync_assets.errors import SyncAssetsError


def stored(folder: Path, error: Exception) -> SerializableErrorInfo:
    """Return what Dagster's code server answers to the daemon for a tick that ends with this error."""

    @dg.op
    def nothing() -> None: ...

    @dg.sensor(name="a_sensor", job=dg.GraphDefinition("a_job", node_defs=[nothing]).to_job())
    @one_sentence("a_sensor")
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        raise error

    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        answer = get_external_sensor_execution(
            dg.Definitions(sensors=[tick]).get_repository_def(), RegisteredCodeLocationOrigin("ours"),
            instance.get_ref(), "a_sensor", None, None, "kept", None, None,
        )  # fmt: skip
    assert isinstance(answer, SensorExecutionErrorSnap)
    assert answer.error
    return answer.error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SyncAssetsError("Dynamics 365 is down.", "Check D365_URL."), "Dynamics 365 is down. Check D365_URL."),
        (SyncAssetsError("It is down.", "Run it again later."), "It is down. The sensor tries again by itself."),
        (ValueError("jane.doe@example.com"), "The sensor a_sensor stopped at an error of the program: ValueError at "),
    ],
)
def test_dagster_stores_one_sentence_without_a_traceback_and_without_foreign_text(
    error: Exception, text: str, tmp_path: Path
) -> None:
    info = stored(tmp_path, error)
    assert info.message.startswith(text)
    assert len(info.message.splitlines()) == 1
    assert "jane" not in info.to_string()
    assert (info.stack, info.cause, info.context) == ([], None, None)
