"""Load the sample rows of `sandbox.data` into an organization."""

from __future__ import annotations

from sync_assets.sandbox import data
from sync_assets.sandbox.dataverse.organization import Organization


def load_sample(org: Organization, contacts: int) -> dict[str, list[str]]:
    """Add sample contacts with their orders and order lines, and return their ids by table.

    A load continues after the last one, so that loads of 100 and 900 contacts add the same contacts as one of 1000.
    """
    first = org.sample_contacts
    org.sample_contacts += contacts
    # Orders and lines depend on a seed only, not on a position, so each load needs another seed for different ids.
    seed = 1 + first
    contact_ids = org.load("contact", data.contacts(contacts, start=first))
    order_ids = org.load("new_order", data.orders(contact_ids, seed))
    return {
        "contact": contact_ids,
        "new_order": order_ids,
        "new_orderline": org.load("new_orderline", data.order_lines(order_ids, seed)),
    }
