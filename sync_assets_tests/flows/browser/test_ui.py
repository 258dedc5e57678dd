"""What a person finds in Dagster's UI after a first sync: one contact was rejected, its orders and their lines wait.

The UI is that of `sync-assets dev`: all of it works through the guard.
"""

import re

import pytest

from sync_assets.defs.partitions import today
from sync_assets_tests.flows.browser.conftest import BUDGET
from sync_assets_tests.flows.browser.ui import Ui
from sync_assets_tests.support.program import Program

night = pytest.mark.slow  # each run reads two pages, with the same browser and server


@night
def test_the_lineage_leads_from_dynamics_365_over_campaign_to_the_report(ui: Ui) -> None:
    ui.open("/asset-groups")
    ui.reads("Global asset lineage", "d365", "campaign", "opt_out", "audit", "report")
    boxes = [ui.page.locator("svg").get_by_text(group, exact=True).first for group in ("d365", "campaign", "report")]
    places = [box["x"] for one in boxes if (box := one.bounding_box())]
    assert places == sorted(places)
    assert len(places) == 3
    ui.open("/assets/campaign/cusOrder?view=lineage&lineageScope=neighbors")
    ui.reads("new_order", "profile", "cusOrder", "cusOrderLine", "daily_sync")


@night
def test_an_asset_page_has_the_numbers_of_the_last_run_as_table_and_as_plots(ui: Ui, synchronised: Program) -> None:
    sent = len(synchronised.sandbox.admin.dump_campaign("cusOrder"))
    ui.open("/assets/campaign/cusOrder")
    ui.reads("engine_calls_by_day", "of budget")
    assert sent
    engine = [entry for entry in synchronised.sandbox.admin.journal("campaign") if entry["engine"]]
    made = sum(bool(re.search(r"/cusOrder(/|\?|$)", entry["path"])) for entry in engine)
    for name, number in {"inserted": sent, "engine_calls": made, "engine_calls_insert": sent}.items():
        assert ui.row(name).get_by_text(f"{number}", exact=True).first.is_visible()
    ui.text("Plots").click()
    ui.page.locator("canvas").first.wait_for()


@night
def test_an_asset_page_leads_to_the_records_in_both_systems(ui: Ui, synchronised: Program) -> None:
    ui.open("/assets/campaign/cusOrder")
    d365, campaign = (synchronised.env[f"{system}_URL"] for system in ("D365", "CAMPAIGN"))
    for url in (
        f"{d365}/main.aspx?pagetype=entitylist&etn=new_order",
        f"{campaign}/campaign/profileAndServicesExt/cusOrder",
    ):
        ui.page.locator(f'a[href="{url}"]').first.wait_for()


def test_a_failed_check_gives_number_cause_and_remedy_and_no_value_of_a_record(ui: Ui) -> None:
    ui.open("/assets/campaign/profile?view=checks&checkDetail=no_record_is_rejected")
    ui.reads("Failed")
    ui.reads("Records that are rejected: 1 of 20", "sync-assets rejects contact", "put them right in", exact=False)
    ui.reads("The value is not valid for the 'email' data policy of the '@email' field")
    assert "not-an-address" not in ui.page.content()


@night
def test_the_runs_page_shows_tables_and_day_of_a_run(ui: Ui) -> None:
    ui.open("/runs")
    for table in ("contact", "new_order", "new_orderline"):
        ui.reads(f"sync/table: {table}")
    assert ui.page.get_by_text(f"partition: {today()}").count() == 3
    assert ui.page.get_by_text("Success", exact=True).count() == 3


@night
def test_the_report_is_made_by_a_click_and_shows_its_tables(ui: Ui, synchronised: Program) -> None:
    ui.open("/assets/report/daily_sync")
    ui.page.get_by_role("button", name="Materialize").first.click()
    ui.reads("Launched run", exact=False)
    ui.wait_for_materialization("report", "daily_sync")
    ui.page.reload()  # by itself the page looks every few seconds, and not at everything
    ui.text("Show Markdown", exact=False).click()
    calls = sum(synchronised.sandbox.admin.engine_calls().values())
    ui.reads(
        f"1 rejected, 0 opt-outs written to Dynamics 365 and 0 to Campaign, {calls} engine calls of {BUDGET:,}",
        exact=False,
    )
    assert ui.row("cusOrderLine", "new_orderline").is_visible()


@night
def test_the_runs_page_names_the_job_of_each_run_and_hides_tags_of_machines(ui: Ui) -> None:
    ui.open("/runs")
    ui.reads("sync")
    content = ui.page.content()
    for hidden in ("__ASSET_JOB", "__anonymous", "ephemeral", "sync_table/", "sync_follows"):
        assert hidden not in content, hidden


@night
def test_the_resources_page_shows_each_system_and_which_assets_use_it(ui: Ui) -> None:
    ui.open("/locations/sync_assets.definitions/resources")
    ui.reads("dynamics_365", "campaign_standard", "campaign_sftp", "ledger")
    ui.text("campaign_sftp").click()
    ui.reads("The SFTP server to which Campaign exports its opt-out files.", exact=False)


@night
def test_the_launchpad_of_replay_has_its_settings_with_their_defaults(ui: Ui) -> None:
    ui.open("/locations/sync_assets.definitions/jobs/replay/playground")
    ui.reads("replay_table")
    ui.page.get_by_text("first_day").first.wait_for()
    ui.reads('Missing required config entry "table"', exact=False)


def test_events_of_a_run_arrive_by_the_web_socket(ui: Ui) -> None:
    [run, *_] = ui.ask("{runsOrError(limit: 1, filter: {statuses: [SUCCESS]}) {... on Runs {results {runId}}}}")[
        "runsOrError"
    ]["results"]
    received: list[str] = []
    ui.page.once("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(str(frame))))
    ui.open(f"/runs/{run['runId']}")
    ui.reads("RUN_SUCCESS")
    assert any("RunSuccessEvent" in frame for frame in received)
