"""What a person finds in Dagster's UI after a first sync: one contact was rejected, its orders and their lines wait.

The UI is that of `sync-assets dev`: all of it works through the guard.
"""

import re

import pytest

from sync_assets.defs.partitions import today
from sync_assets_tests.flows.browser.conftest import BUDGET
from sync_assets_tests.flows.browser.ui import Ui
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

night = pytest.mark.slow  # the other pages are read in each run, with the same browser and server


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
def test_an_asset_page_tells_what_it_is_whose_it_is_and_where_each_column_comes_from(ui: Ui) -> None:
    ui.open("/assets/campaign/cusOrder")
    ui.reads("Records of the Campaign resource", exact=False)
    ui.reads("marketing", "adobecampaign")
    for code in ("configuration", "push_table"):
        href = ui.page.get_by_role("link", name=code).first.get_attribute("href")
        assert href
        assert href.startswith("vscode://file/")
    ui.reads("cusAmount", "from new_order.new_amount", "from new_order.new_contactid: the profile by its externalId")


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


def test_an_asset_page_leads_to_the_records_in_both_systems(ui: Ui, synchronised: Program) -> None:
    ui.open("/assets/campaign/cusOrder")
    d365, campaign = (synchronised.env[f"{system}_URL"] for system in ("D365", "CAMPAIGN"))
    for url in (
        f"{d365}/main.aspx?pagetype=entitylist&etn=new_order",
        f"{campaign}/campaign/profileAndServicesExt/cusOrder",
    ):
        ui.page.locator(f'a[href="{url}"]').first.wait_for()


def test_a_check_that_fails_says_how_many_why_and_what_to_do_and_nothing_of_the_record(ui: Ui) -> None:
    ui.open("/assets/campaign/profile?view=checks&checkDetail=no_record_is_rejected")
    ui.reads("Failed")
    ui.reads("Records that are rejected: 1 of 20", "sync-assets rejects contact", "put them right in", exact=False)
    ui.reads("The value is not valid for the 'email' data policy of the '@email' field")
    assert "not-an-address" not in ui.page.content()


def test_the_runs_page_tells_which_tables_and_which_day_a_run_was_about(ui: Ui) -> None:
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
def test_the_checks_of_an_asset_are_few_and_ready_shows_each_part_of_the_set_up(ui: Ui) -> None:
    ui.open("/assets/d365/contact?view=checks&checkDetail=ready")
    ui.reads("Checks (3)", "ready", "no_deletion_is_held_back", "change_feed_is_polled")
    ui.reads("The set-up is correct.", exact=False)
    ui.reads("change tracking is on", "mapped columns exist", "contacts are within the limit")


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


@night
def test_after_a_set_up_failed_the_asset_page_says_why_in_one_red_check(ui: Ui, synchronised: Program) -> None:
    admin = synchronised.sandbox.admin
    admin.post("/d365/tracking", {"table": "new_orderline", "enabled": False})
    try:
        assert synchronised.run("sync")[0] == 2
        ui.open("/assets/d365/new_orderline?view=checks&checkDetail=ready")
        ui.reads("change tracking is off", exact=False)
        ui.reads("Failed", "Succeeded")  # the list of checks comes after the check itself
        assert ui.page.get_by_text("Failed", exact=True).count() == 2  # in the list, and on the check's own page
        assert ui.page.get_by_text("Succeeded", exact=True).count() == 2
    finally:
        admin.post("/d365/tracking", {"table": "new_orderline", "enabled": True})


@night
def test_a_sensor_is_switched_on_and_off_by_a_click(ui: Ui) -> None:
    ui.open("/locations/sync_assets.definitions/sensors/opt_out_file")
    switch = ui.page.get_by_role("checkbox").first
    for state in ("RUNNING", "STOPPED"):
        switch.dispatch_event("click")  # the box itself is hidden behind the picture of a switch
        until(lambda state=state: sensor_state(ui, "opt_out_file") == state)


def sensor_state(ui: Ui, name: str) -> str:
    selector = (
        f'{{repositoryLocationName: "sync_assets.definitions", repositoryName: "__repository__", sensorName: "{name}"}}'
    )
    return ui.ask(f"{{sensorOrError(sensorSelector: {selector}) {{... on Sensor {{sensorState {{status}}}}}}}}")[
        "sensorOrError"
    ]["sensorState"]["status"]


def test_events_of_a_run_arrive_by_the_web_socket(ui: Ui) -> None:
    [run, *_] = ui.ask("{runsOrError(limit: 1, filter: {statuses: [SUCCESS]}) {... on Runs {results {runId}}}}")[
        "runsOrError"
    ]["results"]
    received: list[str] = []
    ui.page.once("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(str(frame))))
    ui.open(f"/runs/{run['runId']}")
    ui.reads("RUN_SUCCESS")
    assert any("RunSuccessEvent" in frame for frame in received)


@night
def test_a_run_with_tags_that_replace_its_command_fails_and_says_why(ui: Ui) -> None:
    launched = ui.ask(LAUNCH, tags=[{"key": "ecs/container_overrides", "value": '[{"command": ["env"]}]'}])["launchRun"]
    assert launched["__typename"] == "PythonError"
    assert "replace what it executes, or with which resources: ecs/container_overrides. Launch" in launched["message"]
    ui.open("/runs")
    ui.reads("Failure")


LAUNCH = """mutation launch($tags: [ExecutionTag!]) {
    launchRun(executionParams: {
        selector: {repositoryLocationName: "sync_assets.definitions", repositoryName: "__repository__",
                   jobName: "prune_history"},
        executionMetadata: {tags: $tags}}) {
    __typename ... on PythonError {message}}
}"""
