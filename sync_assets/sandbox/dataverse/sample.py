"""Fills an organization with the sample rows of `sandbox.data`."""

from __future__ import annotations

from sync_assets.sandbox import data
from sync_assets.sandbox.dataverse.organization import Organization


def load_sample(org: Organization, contacts: int, *, start: int | None = None) -> dict[str, list[str]]:
    """Adds the next `contacts` contacts (from the `start`-th of the sequence on) with orders and lines; ids by table.

    Without `start` goes on where the last load ended, so that 100 and then 900 are the contacts of 1000 at once.
    """
    first = org.sample_contacts if start is None else start
    org.sample_contacts = first + contacts
    # Orders and lines hang on a seed, not on a position: another seed for each load keeps their ids apart
    seed = 1 + first
    contact_ids = org.load("contact", data.contacts(contacts, start=first))
    order_ids = org.load("new_order", data.orders(contact_ids, seed))
    return {
        "contact": contact_ids,
        "new_order": order_ids,
        "new_orderline": org.load("new_orderline", data.order_lines(order_ids, seed)),
    }
