"""The form of the ids of Dynamics 365."""

import re

GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
"""An id in lower case, as it is stored and sent."""
