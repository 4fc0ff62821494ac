"""Protects use as a Snakemake module: where files are, and that handlers of both workflows run."""

from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_modules import PrefixError, add_handlers, is_module, placing
from pte_foundry.upstream.versions import UpstreamError
from snakemake.api import Workflow
from snakemake.modules import WorkflowModifier
from snakemake.path_modifier import PathModifier

from tests.unit.upstream.source_digest import assert_source_digest


def used(prefix=None, replace=None, inner=None, main=False):
    """A workflow while it reads the rules of a module, as far as it is used."""
    paths = PathModifier(replace, prefix, None, inner)
    return SimpleNamespace(
        modifier=SimpleNamespace(path_modifier=paths, is_main_snakefile=lambda: main)
    )


def test_upstream_still_ignores_the_handlers_of_a_module():
    """If one of these fails: do they run now, or are they called otherwise?"""
    for name, digest in (
        ("onstart", "e3ff3d54ec1c6f5857f2790fd611fec212ebf3c4c173c3610354e96fdcef2109"),
        ("onerror", "63d6ff524667f7b83300f1970620817818b2acff7a226c764dab3a0876c4e3a4"),
    ):
        assert_source_digest(getattr(Workflow, name), digest, "Do handlers of modules run?")
    assert "_onstart" in Workflow.execute.__code__.co_names
    assert "_onerror" in Workflow.execute.__code__.co_names
    assert hasattr(WorkflowModifier, "is_main_snakefile")


def test_a_prefix_is_before_every_path_also_one_of_a_module_in_a_module():
    outer = PathModifier(None, "company", None)
    assert placing(used())("logs/x") == "logs/x"
    assert placing(used("foundry"))("logs/x") == "foundry/logs/x"
    assert placing(used("foundry", inner=outer))("results/x") == "company/foundry/results/x"
    assert placing(used(replace={"results/": "a/results/"}))("results/x") == "a/results/x"


def test_another_name_for_the_results_is_refused():
    with pytest.raises(PrefixError, match=r"into out/x.*Use prefix:"):
        placing(used(replace={"results/": "out/"}))


def test_a_module_is_told_from_the_main_workflow():
    assert is_module(used())
    assert not is_module(used(main=True))
    with pytest.raises(UpstreamError, match="snakemake_modules"):
        is_module(SimpleNamespace(modifier=SimpleNamespace()))


def test_handlers_run_before_those_of_the_other_workflow():
    seen = []
    workflow = SimpleNamespace(
        _onstart=lambda log: seen.append(f"their start {log}"),
        _onerror=lambda log: seen.append(f"theirs {log}"),
    )
    add_handlers(workflow, lambda: seen.append("start"), lambda: seen.append("error"))
    workflow._onstart("log")
    workflow._onerror("log")
    assert seen == ["start", "their start log", "error", "theirs log"]
