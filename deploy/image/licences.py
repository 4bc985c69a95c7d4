"""Writes `docs/licences.md`: what the image's packages say about their licences. Run by `make docs`.

Example: python deploy/image/licences.py > docs/licences.md
"""

from collections import Counter
from importlib.metadata import PackageMetadata, metadata
from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).parent / "requirements.lock"
HEAD = """# Licences

Written by `make docs` out of the metadata of the packages that are locked for the image; a test fails when the two
differ, and when a licence is none of those that may be shipped beside this project's own, [Apache-2.0](../LICENSE).

"""


def locked() -> list[str]:
    """Names of the packages of the image, on this Python and system."""
    lines = [line.removesuffix(" \\") for line in LOCK.read_text().splitlines() if "==" in line]
    wanted = [Requirement(line) for line in lines]
    return [package.name for package in wanted if package.marker is None or package.marker.evaluate()]


def licence(found: PackageMetadata) -> str:
    """Its SPDX expression, else its classifiers, else its own text's first line."""
    classifiers = [c.rpartition(" :: ")[2] for c in found.get_all("Classifier") or [] if c.startswith("License :: ")]
    named = found["License-Expression"] or ", ".join(c for c in classifiers if c != "OSI Approved")
    return named or (found["License"] or "unknown").splitlines()[0]


def page() -> str:
    """Return the whole page in Markdown."""
    found = {name: metadata(name) for name in locked()}
    rows = [f"| {name} | {meta['Version']} | {licence(meta)} |" for name, meta in found.items()]
    kinds = Counter(licence(meta) for meta in found.values())
    summary = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
    return "\n".join([HEAD + summary + ".\n", "| package | version | licence |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - it is made to be redirected into the file
