"""Which requests a server of this machine answers, as browsers send requests for the pages of any site.

A page that somebody has open can send requests to a loopback address; and with a name of its own that resolves to that
address (DNS rebinding), it could read the answers too. Browsers tell of both: Host has the name, Origin the page's site
(not with every GET), Sec-Fetch-Site how far that is from here.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

OWN_NAMES = ("localhost", "127.0.0.1", "::1")
FROM_ELSEWHERE = ("cross-site", "same-site")
"""Values of Sec-Fetch-Site; the other port of one machine is the same site, and yet another server."""


def refusal(headers: Mapping[str, str], names: Collection[str], links: bool = False) -> str | None:
    """Why a request with these headers (by lower-case name) is not answered; None where it is.

    `names` are those of the server. With `links`, people may come to its pages by a link on those of other sites.
    """
    host, origin = headers.get("host", ""), headers.get("origin", "")
    if why := wrong_name(host, names):
        return why
    if origin and not is_own_page(origin, host):
        return f"pages of {origin[:100]!r} may not use {host[:100]}"
    follows_link = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if headers.get("sec-fetch-site") in FROM_ELSEWHERE and not (links and follows_link):
        return f"pages of other sites may not use {host[:100]}"
    return None


def wrong_name(host: str, names: Collection[str]) -> str | None:
    """Why a server of these names does not answer a request for this Host; None where it does, or there is none."""
    if not host or name_in(host) in names:
        return None
    known = "use 127.0.0.1 or localhost, or add the name to MOVIEREC_ALLOWED_HOSTS"
    return f"this server is not called {host[:100]!r}: {known}"


def is_own_page(origin: str, host: str) -> bool:
    """Whether an Origin is that of the pages of the server that has this Host."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


@lru_cache(64)
def name_in(host: str) -> str | None:
    """The name or address in a Host header, without the port; None where it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def listed(text: str) -> list[str]:
    """The names or sites in a setting that has them with commas."""
    return [one.strip().rstrip("/") for one in text.split(",") if one.strip()]
