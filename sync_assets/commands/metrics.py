"""`metrics`: serve the ledger's numbers to Prometheus, or print them once. Which they are: results/metrics.py."""

from contextlib import suppress
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from sync_assets.commands.terminal import fail, let_sigterm_interrupt, open_runtime, say
from sync_assets.results.metrics import LedgerCollector

PORT = 9464
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def command(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = PORT,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics, and end.")] = False,
) -> None:
    """Serve the ledger's numbers as metrics of Prometheus until Ctrl-C, or print them once."""
    let_sigterm_interrupt()
    registry, problems = CollectorRegistry(auto_describe=False), list[str]()
    runtime = open_runtime(any_ledger=True, announce=lambda line: None)  # the collector does, and once
    registry.register(LedgerCollector(runtime.config, runtime.access, problems.append if once else say))
    if once:
        typer.echo(generate_latest(registry).decode(), nl=False)
        if problems:
            fail(*problems)
        return
    try:
        _, thread = start_http_server(port, host, registry)
    except OSError as error:
        another = f"Write e.g. `sync-assets metrics --port {PORT + 1}`."
        fail(f"{host}:{port} cannot be listened on ({error.strerror}). {another}")
    shown = f"[{host}]" if ":" in host else host
    with suppress(KeyboardInterrupt):
        say(f"Metrics: http://{shown}:{port}/metrics, until Ctrl-C")
        if host not in LOOPBACK:
            say("Each host that reaches this port can read them: it has neither TLS nor sign-in, see docs/metrics.md.")
        while True:
            # Until its end, a signal would wait for it: Polars' handler of SIGINT restarts the wait for a lock.
            thread.join(0.5)
