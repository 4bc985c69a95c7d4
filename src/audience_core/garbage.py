"""Python's collector, tuned for services: records and requests form no cycles, and looking for some costs a tenth."""

import gc

_YOUNG = 50_000
"""Containers that are made before the collector looks; its default of 700 is passed by every batch many times."""


def spare_the_collector() -> None:
    """Call once everything is set up: what lives now will live on, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
