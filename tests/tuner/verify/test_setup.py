"""What is known of a table's measuring when neither its study nor its config is at hand."""

from __future__ import annotations

from made_tables import make_cell, make_table

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.device import Placement
from ccl_dispatch.tuner.verify.setup import config_of_table


def test_how_devices_were_used_is_known_from_the_table() -> None:
    """Ranks that shared a GPU, and host calls in place of graphs: the table's settings name both."""
    cell = make_cell(Cell("all_gather", "graph", "first", "bfloat16", 2), 16, [65536], ["aiter"])
    table = make_table((cell,))
    for shared, host_graphs in ((False, False), (True, False), (False, True)):
        settings = Placement("cuda" if shared else "cpu", shared=shared, host_graphs=host_graphs).settings()
        config = config_of_table(table._replace(platform=table.platform._replace(settings=settings)))
        assert (config.share_devices, config.measure.host_graphs) == (shared, host_graphs)
