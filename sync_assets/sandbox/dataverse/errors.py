"""Error answers of Dataverse, with their codes and texts (docs/dev/references/dataverse.md 1.4, 2.2, 3.4)."""

from __future__ import annotations


class DataverseError(Exception):
    """An error that is answered with this HTTP status and `{"error": {"code", "message"}}`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def bad_query(message: str) -> DataverseError:
    return DataverseError(400, "0x80060888", message)


def no_such_property(name: str, table: str) -> DataverseError:
    return bad_query(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'.")


def no_such_segment(segment: str) -> DataverseError:
    return DataverseError(404, "0x8006088a", f"Resource not found for the segment '{segment}'.")


def no_such_row(table: str, row_id: str) -> DataverseError:
    return DataverseError(404, "0x80040217", f"{table} With Id = {row_id} Does Not Exist")


def bad_payload(message: str) -> DataverseError:
    return DataverseError(400, "0x80048d19", message)


def bad_literal(value: object, edm_type: str) -> DataverseError:
    return bad_payload(f"Cannot convert the literal '{value}' to the expected type '{edm_type}'.")


def too_long(column: str, table: str, limit: int) -> DataverseError:
    return DataverseError(
        400,
        "0x80044331",
        f"A validation error occurred.  The length of the '{column}' attribute of the '{table}' entity exceeded the "
        f"maximum allowed length of '{limit}'.",
    )


def out_of_range(value: object, column: str, table: str, accepted: str) -> DataverseError:
    return DataverseError(
        400,
        "0x80044330",
        f"A validation error occurred.  The value {value} of '{column}' on record of type '{table}' is outside the "
        f"valid range. Accepted Values: {accepted}",
    )


def stale() -> DataverseError:
    return DataverseError(
        412, "0x80060882", "The version of the existing record doesn't match the RowVersion property provided."
    )


def exists() -> DataverseError:
    return DataverseError(412, "0x80040237", "A record with matching key values already exists.")


def key_exists(columns: str) -> DataverseError:
    return DataverseError(
        412,
        "0x80060892",
        f"A record that has the attribute values {columns} already exists. The entity key requires that this set of "
        "attributes contains unique values. Select unique values and try again.",
    )


def associated() -> DataverseError:
    """Return CannotDeleteDueToAssociation, a 405 (3.4): rows of a restricting relationship refer to the row."""
    return DataverseError(
        405, "0x80040227", "The object you tried to delete is associated with another object and cannot be deleted."
    )


def insufficient_memory() -> DataverseError:
    """Return the error for a page that is too large. It is known from reports; its code and text are inferred."""
    return DataverseError(
        500, "0x80040216", "There is insufficient system memory in resource pool 'default' to run this query."
    )


def not_allowed(message: str) -> DataverseError:
    return DataverseError(405, "0x0", message)


def not_built(message: str) -> DataverseError:
    """Return the error for a feature that is not emulated, which is better than a wrong answer."""
    return DataverseError(501, "0x80060888", f"{message} is not built into the sandbox.")
