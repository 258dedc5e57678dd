"""Mutants that no test can notice, with the reason. An entry that fits no mutant any more fails the check."""

_NEVER_NONE = "a captured row has a desired state and is in scope, so `placement` is never None: for pyright"
_REFUSED_ANYWAY = "`delivery_of` rejects a record for any outcome but done, denied, transient; no reason names a link"
_LEAVING = "SELECT seq FROM sync_record WHERE table_name = :table AND id IN :records AND"
_MORE_PARENTS = "more parents are re-evaluated, whose states follow from their own dependencies as before"

EQUIVALENT: dict[str, str] = {
    "transitions.py after_capture: if where is None -> if False": _NEVER_NONE,
    "transitions.py after_capture: raise AssertionError('a captured row has a desired state') -> pass": _NEVER_NONE,
    "transitions.py after_capture: 'a captured row has a desired state' -> 'a captured row has a desired state?' "
    "in AssertionError('a captured row has a desired state')": _NEVER_NONE,
    "delivery_result.py retry_wait: 20 -> 21 in min(attempts, 20)": "both are beyond LONGEST_WAIT, without an overflow",
    "delivery.py Sender._delete: 'refused' -> 'refused?' in ResponseOutcome('refused', "
    "_NO_KEY.format(records.resource, records.key))": _REFUSED_ANYWAY,
    "delivery.py _Write._patch: 'refused' -> 'refused?' in ResponseOutcome('refused', "
    "_NO_KEY.format(records.resource, records.key))": _REFUSED_ANYWAY,
    **{
        f"dependency_status.py : '{_LEAVING}' -> '{_LEAVING.replace(*changed)}' in f'\\n {_LEAVING[:-1]}": _MORE_PARENTS
        for changed in ((":table AND", ":table OR"), ("IN :records AND", "IN :records OR"))
    },
}
