"""Load the sample rows of `sandbox.data` into an organization."""

from __future__ import annotations

from sync_assets.sandbox import data
from sync_assets.sandbox.dataverse.organization import Organization


def load_sample(org: Organization, contacts: int, *, start: int | None = None) -> dict[str, list[str]]:
    """Add sample contacts with their orders and order lines, and return their ids by table.

    Args:
        org: The organization.
        contacts: Number of contacts.
        start: Index of the first one in the sequence of sample contacts; None to continue after the last load, so that
            loads of 100 and 900 contacts add the same contacts as one load of 1000.
    """
    first = org.sample_contacts if start is None else start
    org.sample_contacts = first + contacts
    # Orders and lines depend on a seed only, not on a position, so each load needs another seed for different ids.
    seed = 1 + first
    contact_ids = org.load("contact", data.contacts(contacts, start=first))
    order_ids = org.load("new_order", data.orders(contact_ids, seed))
    return {
        "contact": contact_ids,
        "new_order": order_ids,
        "new_orderline": org.load("new_orderline", data.order_lines(order_ids, seed)),
    }
