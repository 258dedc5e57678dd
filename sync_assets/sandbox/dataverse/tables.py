"""Definitions of the emulated tables: contact, two custom tables below it, and the tables that lookups refer to.

contact has the columns that Microsoft ships (docs/dev/references/dataverse.md 2.6), and some custom columns.
"""

from __future__ import annotations

from typing import Any

from sync_assets.sandbox import data
from sync_assets.sandbox.dataverse.columns import Column, Table, Target

BUSINESS_UNIT_ID = "5c0a1f00-0000-4000-8000-0000000000b1"
USER_ID = "5c0a1f00-0000-4000-8000-0000000000a1"
ORGANIZATION_ID = "5c0a1f00-0000-4000-8000-0000000000c1"
CURRENCY_ID = "5c0a1f00-0000-4000-8000-0000000000d1"

_ALLOW = {0: "Allow", 1: "Do Not Allow"}
_NO_YES = {0: "No", 1: "Yes"}


def _text(name: str, label: str, length: int = 100, **more: Any) -> Column:
    return Column(name, "String", label, max_length=length, **more)


def _flag(name: str, label: str, options: dict[int, str] = _NO_YES, default: bool = False, **more: Any) -> Column:
    return Column(name, "Boolean", label, options=options, default=default, **more)


def _choice(name: str, label: str, options: dict[int, str], **more: Any) -> Column:
    return Column(name, "Picklist", label, options=options, **more)


def _link(name: str, label: str, table: str, navigation: str | None = None, **more: Any) -> Column:
    return Column(name, "Lookup", label, targets=(Target(table, navigation or name),), **more)


def _id(name: str, label: str) -> Column:
    return Column(name, "Uniqueidentifier", label, required="SystemRequired")


def _server_set() -> tuple[Column, ...]:
    """Return the columns of all user-owned tables. The server sets them, except state, status and owner."""
    return (
        Column(
            "statecode", "State", "Status", options={0: "Active", 1: "Inactive"}, required="SystemRequired", default=0,
        ),
        Column(
            "statuscode", "Status", "Status Reason", options={1: "Active", 2: "Inactive"}, states={1: 0, 2: 1},
            default=1,
        ),
        Column("createdon", "DateTime", "Created On", read_only=True),
        Column("modifiedon", "DateTime", "Modified On", read_only=True),
        Column("overriddencreatedon", "DateTime", "Record Created On", format="DateOnly"),
        _link("createdby", "Created By", "systemuser", read_only=True),
        _link("modifiedby", "Modified By", "systemuser", read_only=True),
        Column(
            "ownerid", "Owner", "Owner", required="SystemRequired", default=USER_ID,
            targets=(Target("systemuser", "ownerid"),),
        ),
        _link("owningbusinessunit", "Owning Business Unit", "businessunit", read_only=True),
        Column("importsequencenumber", "Integer", "Import Sequence Number"),
        Column("versionnumber", "BigInt", "Version Number", read_only=True),
    )  # fmt: skip


def _money(*columns: Column) -> tuple[Column, ...]:
    """Return money columns with the columns that they require: values in base currency, the currency, the rate."""
    bases = (
        Column(f"{column.name}_base", "Money", f"{column.label} (Base)", precision=4, read_only=True)
        for column in columns
    )
    return (
        *columns,
        *bases,
        _link("transactioncurrencyid", "Currency", "transactioncurrency"),
        Column("exchangerate", "Decimal", "Exchange Rate", precision=10, read_only=True),
    )


CONTACT = Table(
    "contact", "contacts", "Contact", "Contact", "contactid", "fullname",
    (
        _id("contactid", "Contact"),
        _text("fullname", "Full Name", 160, read_only=True),
        _text("salutation", "Salutation"),
        _text("firstname", "First Name", 50, required="Recommended"),
        _text("middlename", "Middle Name", 50),
        _text("lastname", "Last Name", 50, required="ApplicationRequired"),
        _text("nickname", "Nickname"),
        _text("suffix", "Suffix", 10),
        _text("jobtitle", "Job Title"),
        _text("department", "Department"),
        _text("employeeid", "Employee", 50),
        _text("externaluseridentifier", "External User Identifier", 50),
        _text("emailaddress1", "Email"),
        _text("emailaddress2", "Email Address 2"),
        _text("emailaddress3", "Email Address 3"),
        _text("telephone1", "Business Phone", 50),
        _text("telephone2", "Home Phone", 50),
        _text("telephone3", "Telephone 3", 50),
        _text("mobilephone", "Mobile Phone", 50),
        _text("fax", "Fax", 50),
        _text("websiteurl", "Website", 200),
        Column("birthdate", "DateTime", "Birthday", behavior="DateOnly", format="DateOnly"),
        Column("anniversary", "DateTime", "Anniversary", behavior="DateOnly", format="DateOnly"),
        _choice("gendercode", "Gender", data.GENDER),
        _choice("familystatuscode", "Marital Status", data.FAMILY_STATUS),
        _choice("preferredcontactmethodcode", "Preferred Method of Contact", data.PREFERRED_CONTACT, default=1),
        Column("numberofchildren", "Integer", "No. of Children", minimum=0, maximum=1_000_000_000),
        _text("address1_line1", "Address 1: Street 1", 250),
        _text("address1_line2", "Address 1: Street 2", 250),
        _text("address1_line3", "Address 1: Street 3", 250),
        _text("address1_city", "Address 1: City", 80),
        _text("address1_stateorprovince", "Address 1: State/Province", 50),
        _text("address1_postalcode", "Address 1: ZIP/Postal Code", 20),
        _text("address1_country", "Address 1: Country/Region", 80),
        Column("address1_latitude", "Double", "Address 1: Latitude", precision=5),
        Column("description", "Memo", "Description", max_length=2000),
        _flag("donotemail", "Do not allow Emails", _ALLOW),
        _flag("donotphone", "Do not allow Phone Calls", _ALLOW),
        _flag("donotfax", "Do not allow Faxes", _ALLOW),
        _flag("donotpostalmail", "Do not allow Mails", _ALLOW),
        _flag("donotbulkemail", "Do not allow Bulk Emails", _ALLOW),
        _flag("donotbulkpostalmail", "Do not allow Bulk Mails"),
        _flag("donotsendmm", "Send Marketing Materials", {0: "Send", 1: "Do Not Send"}),
        _flag("followemail", "Follow Email Activity", {0: "Do Not Allow", 1: "Allow"}, default=True),  # inverted
        *_money(Column("creditlimit", "Money", "Credit Limit")),
        Column(
            "parentcustomerid", "Customer", "Company Name",
            targets=(Target("account", "parentcustomerid_account"), Target("contact", "parentcustomerid_contact")),
        ),
        Column("parentcustomeridtype", "EntityName", "Parent Customer Type", read_only=True),
        _flag("merged", "Merged", read_only=True),
        _link("masterid", "Master ID", "contact", read_only=True),
        Column("entityimage", "Image", "Entity Image"),
        Column("new_score", "Integer", "Score", minimum=-100_000, maximum=100_000),
        Column("new_balance", "Decimal", "Balance"),
        Column("new_lastvisit", "DateTime", "Last Visit"),
        # Its format is DateOnly, but its behaviour is not, so it has a time (docs/dev/references/dataverse.md 2.4).
        Column("new_membersince", "DateTime", "Member Since", format="DateOnly"),
        Column("new_appointment", "DateTime", "Appointment", behavior="TimeZoneIndependent"),
        _flag("new_vip", "VIP"),
        _choice("new_tier", "Tier", data.TIER),
        Column("new_interests", "MultiSelectPicklist", "Interests", options=data.INTERESTS),
        *_server_set(),
    ),
    keys={"new_externaluser": ("externaluseridentifier",)},
    collections={
        "new_contact_new_order": ("new_order", "new_contactid"),
        "contact_customer_contacts": ("contact", "parentcustomerid"),
    },
    parent="parentcustomerid",
)  # fmt: skip

NEW_ORDER = Table(
    "new_order", "new_orders", "new_Order", "Order", "new_orderid", "new_name",
    (
        _id("new_orderid", "Order"),
        _text("new_name", "Name", 100, required="ApplicationRequired"),
        _link("new_contactid", "Contact", "contact", "new_ContactId"),
        *_money(Column("new_amount", "Money", "Amount")),
        Column("new_quantity", "Integer", "Quantity", minimum=0, maximum=1_000_000),
        Column("new_orderdate", "DateTime", "Order Date", behavior="DateOnly", format="DateOnly"),
        Column("new_placedon", "DateTime", "Placed On"),
        _choice("new_status", "Order Status", data.ORDER_STATUS),
        _flag("new_express", "Express"),
        Column("new_weight", "Decimal", "Weight", precision=3),
        Column("new_tags", "MultiSelectPicklist", "Tags", options=data.ORDER_TAGS),
        *_server_set(),
    ),
    collections={"new_order_new_orderline": ("new_orderline", "new_orderid")},
    parent="new_contactid",
)  # fmt: skip

NEW_ORDERLINE = Table(
    "new_orderline", "new_orderlines", "new_OrderLine", "Order Line", "new_orderlineid", "new_name",
    (
        _id("new_orderlineid", "Order Line"),
        _text("new_name", "Name", 100, required="ApplicationRequired"),
        _link("new_orderid", "Order", "new_order", "new_OrderId"),
        *_money(Column("new_price", "Money", "Price")),
        Column("new_count", "Integer", "Count", minimum=0, maximum=1_000_000),
        *_server_set(),
    ),
    parent="new_orderid",
)  # fmt: skip

ACCOUNT = Table(
    "account", "accounts", "Account", "Account", "accountid", "name",
    (
        _id("accountid", "Account"),
        _text("name", "Account Name", 160),
        _text("emailaddress1", "Email"),
        _text("telephone1", "Main Phone", 50),
        _text("address1_line1", "Address 1: Street 1", 250),
        _text("address1_city", "Address 1: City", 80),
        *_server_set(),
    ),
    collections={"contact_customer_accounts": ("contact", "parentcustomerid")},
)  # fmt: skip

# Tables without change tracking and with fixed rows: targets of lookups, and the settings of the organization.
SYSTEM_USER = Table(
    "systemuser", "systemusers", "SystemUser", "User", "systemuserid", "fullname",
    (
        _id("systemuserid", "User"),
        _text("fullname", "Full Name", 200),
        Column("modifiedon", "DateTime", "Modified On", read_only=True),
        Column("versionnumber", "BigInt", "Version Number", read_only=True),
    ),
    change_tracking=False,
)  # fmt: skip

BUSINESS_UNIT = Table(
    "businessunit", "businessunits", "BusinessUnit", "Business Unit", "businessunitid", "name",
    (
        _id("businessunitid", "Business Unit"),
        _text("name", "Name", 160),
        Column("versionnumber", "BigInt", "Version Number", read_only=True),
    ),
    change_tracking=False,
)  # fmt: skip

CURRENCY = Table(
    "transactioncurrency", "transactioncurrencies", "TransactionCurrency", "Currency", "transactioncurrencyid",
    "currencyname",
    (
        _id("transactioncurrencyid", "Currency"),
        _text("currencyname", "Currency Name"),
        _text("isocurrencycode", "Currency Code", 5),
        Column("versionnumber", "BigInt", "Version Number", read_only=True),
    ),
    change_tracking=False,
)  # fmt: skip

ORGANIZATION = Table(
    "organization", "organizations", "Organization", "Organization", "organizationid", "name",
    (
        _id("organizationid", "Organization"),
        _text("name", "Organization Name", 160),
        Column("expirechangetrackingindays", "Integer", "Days to Expire Change Tracking", minimum=0, maximum=365),
        Column("languagecode", "Integer", "Language"),
        Column("modifiedon", "DateTime", "Modified On", read_only=True),
        Column("versionnumber", "BigInt", "Version Number", read_only=True),
    ),
    change_tracking=False,
)  # fmt: skip

TABLES = (CONTACT, NEW_ORDER, NEW_ORDERLINE, ACCOUNT, SYSTEM_USER, BUSINESS_UNIT, CURRENCY, ORGANIZATION)

STANDING_ROWS: dict[str, dict[str, Any]] = {
    "systemuser": {"systemuserid": USER_ID, "fullname": "# sync_assets application user"},
    "businessunit": {"businessunitid": BUSINESS_UNIT_ID, "name": "sandbox"},
    "transactioncurrency": {
        "transactioncurrencyid": CURRENCY_ID, "currencyname": "Euro", "isocurrencycode": "EUR",
    },
    "organization": {
        "organizationid": ORGANIZATION_ID, "name": "sandbox", "expirechangetrackingindays": 7, "languagecode": 1033,
    },
}  # fmt: skip
"""The row that each of these tables has from the start."""
