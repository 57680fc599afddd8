"""Which requests the pages answer: those of their own scripts, on this machine."""

import re
from collections.abc import Sequence

LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
REFUSAL = "this page answers only its own requests, on this machine\n"


def is_own_request(hosts: Sequence[str], origins: Sequence[str]) -> bool:
    """Check whether a request is addressed to this machine, and not sent by another web page.

    Browsers let every web page send requests to this machine, and a foreign name may resolve to its address
    (DNS rebinding), but the headers tell. Any port is accepted, since a tunnel may change it.

    Args:
        hosts: values of the ``Host`` header.
        origins: values of the ``Origin`` header; none where a browser leaves it out, and with other programs.
    """
    if len(hosts) != 1 or not LOCAL_HOST.fullmatch(hosts[0]):
        return False
    return not origins or list(origins) in ([f"http://{hosts[0]}"], [f"https://{hosts[0]}"])
