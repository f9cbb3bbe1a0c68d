"""What the site says otherwise than the pages: links out of docs/ become plain text."""

import re
from typing import Any

_LINK = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Replace links to files that are in the repository and not in the site by their names."""
    depth = page.file.src_uri.count("/") + 1

    def name(found: re.Match[str]) -> str:
        ups = found[0].count("../")
        return f"{found[1]} (`{found[2]}`)" if ups >= depth else found[0]

    return _LINK.sub(name, markdown)
