"""The fixtures of unit tests, for tests of modules with processes, other servers, or data of seconds."""

from sync_assets_tests.unit.conftest import bench, home, ledger_url, program, shared_sandbox, systems

__all__ = ["bench", "home", "ledger_url", "program", "shared_sandbox", "systems"]
