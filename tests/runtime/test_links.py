"""How GPUs are linked, from the kernel's account of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl_dispatch.runtime.links import PciAddress, amd_links, describe_links


def _node(folder: Path, number: int, address: PciAddress | None, links: dict[int, int], domain: int = 0) -> None:
    """A node as the kernel shows it: a GPU at `address`, or a CPU; `links` are peers and types of link."""
    node = folder / str(number)
    node.mkdir(parents=True)
    location = 0 if address is None else address.bus << 8 | address.device << 3
    simds = 0 if address is None else 1216
    (node / "properties").write_text(
        f"cpu_cores_count 0\nsimd_count {simds}\nlocation_id {location}\ndomain {domain}\n"
    )
    for index, (peer, kind) in enumerate(links.items()):
        link = node / "io_links" / str(index)
        link.mkdir(parents=True)
        (link / "properties").write_text(
            f"type {kind}\nversion_major 0\nnode_from {number}\nnode_to {peer}\nweight 15\n"
        )


def test_a_fully_connected_node_is_called_that(tmp_path: Path) -> None:
    """Eight GPUs, each with an XGMI link to the seven others, behind two CPU nodes."""
    addresses = [PciAddress(0, 0x10 + 0x20 * index, 0) for index in range(8)]
    _node(tmp_path, 0, None, {1: 2})
    _node(tmp_path, 1, None, {0: 2})
    for index, address in enumerate(addresses):
        links = {2 + peer: 11 for peer in range(8) if peer != index}
        _node(tmp_path, 2 + index, address, {0: 2, **links})
    kinds = amd_links(addresses, str(tmp_path))
    assert describe_links(kinds, 8) == "XGMI, 8 fully connected"
    assert describe_links(amd_links(addresses[:4], str(tmp_path)), 4) == "XGMI, 4 fully connected"


def test_two_bridged_pairs_are_counted(tmp_path: Path) -> None:
    """Four GPUs of which two pairs are linked: the rest of the pairs goes over PCIe."""
    addresses = [PciAddress(1, bus, 3) for bus in (1, 2, 3, 4)]
    for index, address in enumerate(addresses):
        _node(tmp_path, index, address, {index ^ 1: 11}, domain=1)
    assert describe_links(amd_links(addresses, str(tmp_path)), 4) == "XGMI between 2 and PCIe between 4 of 6 pairs"


def test_a_hidden_device_leaves_the_link_unknown(tmp_path: Path) -> None:
    """Where the kernel doesn't show one of the devices, nothing is claimed; nor where it shows nothing at all."""
    shown, hidden = PciAddress(0, 1, 0), PciAddress(0, 2, 0)
    _node(tmp_path, 0, shown, {1: 11})
    (tmp_path / "1").mkdir()
    assert describe_links(amd_links([shown, hidden], str(tmp_path)), 2) == ""
    assert describe_links(amd_links([shown, hidden], str(tmp_path / "absent")), 2) == ""


@pytest.mark.parametrize("shift", [0, 28])
def test_partitions_of_a_gpu_leave_the_link_unknown(tmp_path: Path, shift: int) -> None:
    """Two GPUs of two partitions each, as torch sees them: two addresses, each twice. The kernel has the number of the
    partition in the location, in its lowest bits or, since Linux 6.6, in its highest.
    """
    addresses = [PciAddress(0, bus, 0) for bus in (1, 1, 2, 2)]
    for index, address in enumerate(addresses):
        _node(tmp_path, index, address, {peer: 11 for peer in range(4) if peer != index})
        properties = tmp_path / str(index) / "properties"
        location = address.bus << 8 | index % 2 << shift
        properties.write_text(f"simd_count 608\nlocation_id {location}\ndomain 0\n")
    assert describe_links(amd_links(addresses, str(tmp_path)), 4) == ""


@pytest.mark.parametrize(
    ("kinds", "count", "words"),
    [
        (["NVLink"], 2, "NVLink, 2 fully connected"),
        (["PCIe"] * 6, 4, "PCIe, 4 fully connected"),
        ([], 1, ""),
        (["NVLink"], 4, ""),
    ],
)
def test_words(kinds: list[str], count: int, words: str) -> None:
    """One kind of link is named with the number of devices; an incomplete account is unknown."""
    assert describe_links(kinds, count) == words
