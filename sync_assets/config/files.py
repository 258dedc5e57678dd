"""Find the configuration file and the `.env` beside it, and add them to the environment (docs/environment.md).

Processes that are started later inherit the result. Imports no library, so that `--help` stays fast.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import sync_assets
from sync_assets.config.found_files import check_found
from sync_assets.errors import SyncAssetsError

PREFIXES = ("SYNC_ASSETS_", "D365_", "CAMPAIGN_")
"""Of the program's variables."""
CONFIG = "SYNC_ASSETS_CONFIG"
DEFAULT_NAME = "sync_assets.yaml"
SANDBOX_CONFIG = Path(sync_assets.__file__).parent / "sandbox" / DEFAULT_NAME
"""The sandbox's own configuration, which only the environment that the sandbox writes names."""
DEFS = "defs.yaml"
COMPONENT = "SyncComponent"
"""Our component; the name of each subclass ends with it, as its type in a `defs.yaml` of Dagster's does."""
OF_PROCESS = ("SYNC_ASSETS_LOG_LEVEL", "SYNC_ASSETS_LOG_FORMAT", "SYNC_ASSETS_UI_HOSTS", "SYNC_ASSETS_OWN_PROCESS")
"""Variables of a process, whichever installations it holds."""
PREFIX = "([A-Za-z][A-Za-z0-9_]*)?"
"""Pattern of a component's `name` and `environment_prefix`."""
COMMAND_LINE_ATTRIBUTES = ("configuration", "environment_file", "environment_prefix", "name", "key_prefix")
"""Attributes of the component that the command line reads."""
_VARIABLE = re.compile(r"""\{\{\s*env(?:\.(\w+)|\(\s*['"](\w+)['"]\s*\))\s*\}\}""")
SECRET_PATHS = (
    "SYNC_ASSETS_LEDGER_KEY_FILE",
    "D365_CLIENT_CERTIFICATE",
    "D365_FEDERATED_TOKEN_FILE",
    "CAMPAIGN_SFTP_PRIVATE_KEY",
)
"""Variables with the path of a file that is a secret."""
PATHS = (CONFIG, "SYNC_ASSETS_CA_BUNDLE", "CAMPAIGN_SFTP_HOST_KEY", *SECRET_PATHS)
"""Variables with the path of a file."""
OVER_DAGSTER = "SYNC_ASSETS_OVER_DAGSTER"
"""Variables, as a JSON object, that Dagster's own reader of `.env` would replace, see `keep_over_dagster`."""


def complete(
    environment: MutableMapping[str, str],
    *,
    config: str = "",
    env_file: str = "",
    prefix: str = "",
    of_component: bool = False,
) -> None:
    """Add the variables of `.env` beside the configuration file, and the file's path.

    Args:
        environment: is changed. Its variables win over those of `.env`; a blank one counts as not set.
        config, env_file: paths of the command line; they win over variables that are set.
        prefix: Of the variables, in the environment and in `.env`: each is taken without it. Without the prefix none of
            the program's is taken then, since it is of another installation. Names in `env_file` may lack it.
        of_component: True for the command line: prefix and file of variables are those of the component that names the
            configuration. The prefix is ignored if no variable has it.

    Raises:
        SyncAssetsError: A file of variables, or of the component, cannot be read; or one that was found, not named, may
            be another user's.
    """
    environment.update(json.loads(environment.get(OVER_DAGSTER, "{}")))
    given = read_env_file(_absolute(env_file)) if env_file else {}
    named = config or given.get(CONFIG, "").strip() or environment.get(prefix + CONFIG, "").strip()
    path = _absolute(named) if named else find_configuration()
    if path and not named:
        check_found(path, f"name it: --config {path}")
    if of_component and path:
        component = component_of(path)
        prefix, file = component.get("environment_prefix") or "", component.get("environment_file")
        given = (read_env_file(component["folder"] / file) if file else {}) | given
    variables = path.with_name(".env") if path else Path.cwd() / ".env"
    beside = {}
    if os.path.exists(variables):
        check_found(variables, "move it elsewhere and name it: --env-file")
        beside = read_env_file(variables)
    if of_component and not _without(prefix, {**environment, **beside, **given}):
        prefix = ""
    if prefix:
        ours = _without(prefix, environment)
        for name in [name for name in environment if name.startswith(PREFIXES) and name not in OF_PROCESS]:
            del environment[name]
        environment.update(ours)
        beside = read_env_file(variables, prefix) if beside else {}
        given |= read_env_file(_absolute(env_file), prefix) if env_file else {}
    environment.update(given)
    for name, value in beside.items():
        if not environment.get(name, "").strip():
            environment[name] = value
    if path:
        environment[CONFIG] = str(path)


def _without(prefix: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the program's variables that have the prefix, by their names without it."""
    named = {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)}
    return {name: value for name, value in named.items() if name.startswith(PREFIXES)}


def find_configuration() -> Path | None:
    """Return the `sync_assets.yaml` of the current folder or of the next folder above that has one."""
    return next((file for folder in _upwards(Path.cwd()) if os.path.exists(file := folder / DEFAULT_NAME)), None)


def _upwards(folder: Path) -> Iterator[Path]:
    """Yield a folder and those above it, up to the first one in which every user may write, such as `/tmp`."""
    yield folder
    for above in folder.parents:
        if above.stat().st_mode & 0o002:
            return
        yield above


def component_of(configuration: Path) -> dict[str, Any]:
    """Return the attributes, and the `folder`, of the component that names a configuration file; empty if none does.

    Its `defs.yaml` is in the folder of the configuration or above it. Raises SyncAssetsError, also if two name it, or
    if the `defs.yaml` may be another user's.
    """
    for folder in _upwards(configuration.parent):
        named: list[dict[str, Any]] = []
        for attributes in components_in(folder / DEFS):
            path = str(attributes["configuration"])
            if "{{" in path or Path(os.path.abspath(folder / path)) == configuration:
                check_found(folder / DEFS)
                _check_attributes(folder / DEFS, attributes)
                named.append({**attributes, "folder": folder})
        if len(named) > 1:
            text = f"{folder / DEFS}: {len(named)} components name {configuration}, and each has another ledger."
            raise SyncAssetsError(text, "Give each a configuration file of its own.")
        if named:
            return named[0]
    return {}


def _check_attributes(file: Path, attributes: Mapping[str, Any]) -> None:
    """Raise SyncAssetsError for an attribute that the command line cannot read, or that Dagster refuses."""
    for name in COMMAND_LINE_ATTRIBUTES:
        value: Any = attributes.get(name) or ""
        texts: list[Any] = value if name == "key_prefix" and isinstance(value, list) else [value]
        if "{{" in str(value):
            text = f"{file}: `{name}` is an expression, of which the command line takes variables that are set."
            raise SyncAssetsError(text, "Write its value, or set the variable that is its `{{ env.NAME }}`.")
        if not all(isinstance(text, str) for text in texts):
            raise SyncAssetsError(f"{file}: `{name}` is not a text.", "Write a text.")
        if name in ("environment_prefix", "name") and not re.fullmatch(PREFIX, str(value)):
            raise SyncAssetsError(f"{file}: `{name}` must be letters, digits and `_`, a letter first.", "Correct it.")


def components_in(file: Path) -> list[dict[str, Any]]:
    """Return the attributes of our components in a `defs.yaml` of Dagster's. Raises SyncAssetsError.

    Each `{{ env.NAME }}` of a variable that is set is replaced, as Dagster does; other expressions are as written.
    """
    if not os.path.exists(file):
        return []
    import yaml  # noqa: PLC0415  only where such a file is

    try:
        text = file.read_text("utf-8")
        if COMPONENT not in text:
            return []
        documents: list[Any] = [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
        ours = [one.get("attributes") or {} for one in documents if str(one.get("type")).endswith(COMPONENT)]
        return [{"configuration": DEFAULT_NAME} | {key: _evaluated(one[key]) for key in one} for one in ours]
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        at = f"{file}:{mark.line + 1}" if mark else str(file)
        raise SyncAssetsError(f"{at} cannot be read ({type(error).__name__}).", "Correct the file.") from None


def _evaluated(value: Any) -> Any:
    if isinstance(value, list):
        return [_evaluated(one) for one in value]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(lambda found: os.environ.get(found[1] or found[2], found[0]), value)


def read_env_file(path: Path, prefix: str = "") -> dict[str, str]:
    """Read lines `NAME=value`, quoted as in a shell; nothing is expanded. Relative paths are below the file's folder.

    prefix: As of `complete`. Raises SyncAssetsError, which shows no value.
    """
    from dotenv.parser import parse_stream  # noqa: PLC0415  only where such a file is

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SyncAssetsError(f"The env file {path} cannot be read ({why}).", "Correct the path or the file.") from None
    variables: dict[str, str] = {}
    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.key and line.value is None):
            raise SyncAssetsError(
                f"{path}:{line.original.line}: this is not a variable.", "Write NAME=value, with quotes around blanks."
            )
        if line.key and line.value is not None:
            variables[line.key] = line.value
    if prefix:
        variables = _without(prefix, variables)
    for name, value in variables.items():
        if value.startswith("sqlite:///"):
            variables[name] = f"sqlite:///{path.parent / value.removeprefix('sqlite:///')}"
        elif value and (name in ("DAGSTER_HOME", *PATHS) or (name.startswith(PREFIXES) and name.endswith("_FILE"))):
            variables[name] = str(path.parent / os.path.expanduser(value))
    return variables


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def keep_over_dagster(environment: MutableMapping[str, str]) -> None:
    """Let `complete` restore, in the processes that Dagster starts, what their `.env` replaces.

    Dagster's commands set the variables of `.env` in the current folder even if they are set already.
    """
    if os.path.isfile(".env"):
        check_found(Path.cwd() / ".env")
        replaced = read_env_file(Path.cwd() / ".env")
        environment[OVER_DAGSTER] = json.dumps({name: environment.get(name, "") for name in replaced})


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file completely or not at all, through symbolic links. Raises OSError.

    A new file is its owner's (0600): it names the tables and columns of the systems. An old one keeps its permissions.
    """
    import tempfile  # noqa: PLC0415

    path = path.resolve()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        if path.exists():
            os.chmod(name, path.stat().st_mode & 0o7777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
