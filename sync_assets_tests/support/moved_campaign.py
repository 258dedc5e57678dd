"""Campaign v8 after the move from Campaign Standard: the same records with other PKeys, in a sandbox of its own."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sync_assets_tests.support.chain_configuration import CHAIN_LINKS, KEY_OF_RESOURCE
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import Admin, SandboxProcess

OF_CAMPAIGN = ("CAMPAIGN_URL", "CAMPAIGN_IMS_URL", "CAMPAIGN_CLIENT_ID", "CAMPAIGN_CLIENT_SECRET", "CAMPAIGN_SCOPES")
OF_SFTP = tuple(f"CAMPAIGN_SFTP_{name}" for name in ("HOST", "PORT", "USER", "PRIVATE_KEY", "HOST_KEY"))
NOT_COPIED = {
    "profile": {"acsId", "age", "cryptedId", "domain", "isExternal", "postalAddress", "timeZone"},
}
"""Attributes, besides those of every record, that Campaign computes."""
OF_RECORDS = {"PKey", "href", "title", "created", "lastModified", "_visible", "thumbnail"}


def copy_campaign(source: Admin, target: Admin, lost: Collection[str] = (), emptied: Collection[str] = ()) -> None:
    """Copy all records of Campaign, with links and times of opt-outs. lost: ids of records that the move lost.
    emptied: ids of profiles whose e-mail the move lost. Links to a lost record are empty.
    """
    pkeys: dict[str, str] = {}
    for resource, key in KEY_OF_RESOURCE.items():
        records, times = list[dict[str, Any]](), dict[str, dict[str, str]]()
        kept = [record for record in source.dump_campaign(resource) if record[key] not in lost]
        for record in kept:
            computed = OF_RECORDS | NOT_COPIED.get(resource, set())
            plain = {name: value for name, value in record.items() if name not in computed}
            links = {name: value for name, value in plain.items() if isinstance(value, dict) and "PKey" in value}
            copied = {name: value for name, value in plain.items() if not name.endswith("LastModified")}
            copied = {name: value for name, value in copied.items() if value is not None and "link" not in name.lower()}
            copied.pop("subscriptions", None)
            copied |= {
                name: {"PKey": pkeys[link["PKey"]]}
                for name, link in links.items()
                if name in CHAIN_LINKS.get(resource, ()) and link["PKey"] in pkeys
            }
            records.append(copied | ({"email": ""} if record[key] in emptied else {}))
            if changed := {n: value for n, value in plain.items() if n.endswith("LastModified") and value}:
                times[record[key]] = changed
        for at in range(0, len(records), 500):
            body = {"resource": resource, "records": records[at : at + 500]}
            made = target.post("/campaign/records", body)["pkeys"]
            pkeys |= zip((record["PKey"] for record in kept[at : at + 500]), made, strict=True)
        for id_, raw in times.items():
            target.post("/campaign/change", {"resource": resource, "keys": [id_], "raw": raw})


def use_campaign(program: Program, other: SandboxProcess) -> None:
    """Let the environment name the Campaign and the SFTP of another sandbox, as after the move."""
    program.more |= {name: other.env[name] for name in (*OF_CAMPAIGN, *OF_SFTP)}
    bundle = program.home / "both.pem"
    both = (program.sandbox.env["SYNC_ASSETS_CA_BUNDLE"], other.env["SYNC_ASSETS_CA_BUNDLE"])
    bundle.write_text("".join(Path(one).read_text() for one in both))
    program.more["SYNC_ASSETS_CA_BUNDLE"] = str(bundle)
