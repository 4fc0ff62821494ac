"""Protects the speed of a sweep, and that a kept list of operators changes no program."""

import torch
from pte_foundry.upstream.torch_decompositions import collected_once
from torch._export import utils


def test_the_operators_are_collected_once(monkeypatch):
    collected = []
    upstream = utils._collect_all_valid_cia_ops_for_namespace
    monkeypatch.setattr(
        utils,
        "_collect_all_valid_cia_ops_for_namespace",
        lambda namespace: collected.append(namespace) or upstream(namespace),
    )
    with collected_once():
        first = dict(torch.export.default_decompositions().items())
        several = len(collected)
        second = dict(torch.export.default_decompositions().items())
        assert len(collected) == several > 0
    assert first.keys() == second.keys()
    assert dict(torch.export.default_decompositions().items()).keys() == first.keys()
    assert len(collected) == 2 * several  # as upstream does, outside of the context
