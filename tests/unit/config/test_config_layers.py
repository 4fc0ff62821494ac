"""Protects which files a config is made of, and what the paths in them are relative to."""

import textwrap
from pathlib import Path

import pytest
from pte_foundry.config.config import Config, load
from pte_foundry.errors import ConfigError
from pte_foundry.workflow.jobs import Jobs

MODULE = "def build(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\ndef train(): ...\n"
WHOLE = """\
models: {own: {module: MODULE, weights: {train: true}}}
recipes: {plain: {scheme: none}}
targets: {phone: {minimum_os: iOS18}}
builds: [{models: [own], recipes: [plain], targets: [phone]}]
"""


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_suffix(".py" if text == MODULE else ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone whose default config builds `boxed`, with recipe `boxed` and target `boxed`."""
    folder = tmp_path / "clone"
    (folder / "scripts/pte_foundry").mkdir(parents=True)
    default = WHOLE.replace("MODULE", "models/boxed.py")
    for name in ("own", "plain", "phone"):
        default = default.replace(name, "boxed")
    write(folder, config__config=default, config__models__boxed=MODULE)
    return folder


@pytest.fixture
def mine(tmp_path, clone) -> Path:
    """A folder beside the clone."""
    write(tmp_path / "mine", models__own=MODULE)
    return tmp_path / "mine"


def parsed(clone: Path, *files: Path, data=None, others=()) -> Config:
    """The config as the rules have it, which get the files merged."""
    from pte_foundry.config.yamlfiles import merged, read

    if data is None:
        data = merged(read(file, clone).data for file in files)
    return Config.parse(data, files, clone, others=others)


def names(config: Config) -> tuple[set[str], list[str]]:
    return set(config.models), [file.shown for file in config.layers.files]


def test_a_whole_config_stands_alone(clone, mine):
    write(mine, mine=WHOLE.replace("MODULE", "models/own.py").replace("[own]", "'*'"))
    config = parsed(clone, mine / "mine.yaml")
    assert names(config) == ({"own"}, [str(mine / "mine.yaml")])
    assert config.built_models == ["own"]
    assert config.module_file("own") == mine / "models/own.py"
    assert config.project("own") == mine


def test_one_without_recipes_extends_the_default_and_paths_are_relative_to_the_file_of_each(
    clone, mine
):
    write(
        mine,
        mine="""\
        models: {own: {module: models/own.py, weights: {train: true}}}
        builds: [{models: [own, boxed], recipes: [boxed], targets: [boxed]}]
        """,
    )
    config = parsed(clone, mine / "mine.yaml")
    assert names(config) == ({"own", "boxed"}, ["config/config.yaml", str(mine / "mine.yaml")])
    assert config.module_file("own") == mine / "models/own.py"
    assert config.module_file("boxed") == clone / "config/models/boxed.py"
    # The clone is the project: its model's name in the manifest is config/models/boxed.py.
    assert (config.project("own"), config.project("boxed")) == (mine, clone)


def test_extends_says_so_for_a_whole_config(clone, mine):
    whole = WHOLE.replace("MODULE", "models/own.py")
    write(mine, mine=f"extends: default\n{whole}")
    assert names(parsed(clone, mine / "mine.yaml"))[0] == {"own", "boxed"}
    write(mine, mine="extends: null\nmodels: {own: {module: models/own.py}}\n")
    with pytest.raises(ConfigError, match="recipes"):
        parsed(clone, mine / "mine.yaml")


def test_a_chain_of_files_each_relative_to_its_own(clone, mine, tmp_path):
    write(mine, company__base="extends: default\nmodels: {own: {weights: {train: true}}}\n")
    write(
        mine,
        products__phone="""\
        extends: ../company/base.yaml
        models: {own: {module: ../models/own.py}}
        builds: [{models: [own], recipes: [boxed], targets: [boxed]}]
        """,
    )
    config = parsed(clone, mine / "products/phone.yaml", others=[mine])
    shown = ["config/config.yaml", "company/base.yaml", "products/phone.yaml"]
    assert [Path(name).name for name in shown] == [file.path.name for file in config.layers.files]
    assert config.module_file("own").resolve() == mine / "models/own.py"


def test_files_that_extend_each_other_or_nothing_end(clone, mine):
    whole = WHOLE.replace("MODULE", "models/own.py")
    write(mine, a=f"extends: b.yaml\n{whole}", b="extends: a.yaml\ngates: {sqnr_db: {min: 1}}\n")
    assert len(parsed(clone, mine / "a.yaml").layers.files) == 2
    write(mine, a=f"extends: nowhere.yaml\n{whole}")
    with pytest.raises(ConfigError, match=r"a\.yaml:1: extends = \"nowhere\.yaml\"\n.*no such"):
        parsed(clone, mine / "a.yaml")
    write(mine, a=f"extends: [b.yaml]\n{whole}")
    with pytest.raises(ConfigError, match=r"a\.yaml:1: extends"):
        parsed(clone, mine / "a.yaml")


def test_the_default_named_beside_an_overlay_is_read_once(clone, mine):
    write(mine, over="extends: default\ngates: {sqnr_db: {min: 1}}\n")
    files = [clone / "config/config.yaml", mine / "over.yaml"]
    assert names(parsed(clone, *files))[1] == ["config/config.yaml", str(mine / "over.yaml")]


def test_a_file_in_a_folder_config_can_name_paths_from_the_folder_above(clone, mine):
    """As is usual in Snakemake, and as the configs of earlier versions did."""
    for place in ("models/own.py", "../models/own.py"):
        write(mine, config__mine=WHOLE.replace("MODULE", place))
        config = parsed(clone, mine / "config/mine.yaml")
        assert config.module_file("own").resolve() == mine / "models/own.py"
        assert config.project("own") == mine


def test_models_of_the_clone_can_be_named_and_those_beside_the_config_win(clone, mine):
    write(mine, mine=WHOLE.replace("MODULE", "config/models/boxed.py"))
    config = parsed(clone, mine / "mine.yaml")
    assert config.module_file("own") == clone / "config/models/boxed.py"
    assert config.project("own") == clone
    write(mine, config__models__boxed=MODULE)
    assert parsed(clone, mine / "mine.yaml").project("own") == mine


def test_declared_imports_are_relative_to_the_config_too(clone, mine):
    module = "models/own.py, imports: [../shared/nets, helpers]"
    write(mine, config__mine=WHOLE.replace("MODULE", module), shared__nets__net=MODULE)
    write(mine, config__models__own=MODULE, helpers=MODULE)
    config = parsed(clone, mine / "config/mine.yaml")
    assert config.project("own") == mine
    assert config.declared_imports("own") == ["shared/nets", "helpers"]
    assert "shared/nets/net.py" in Jobs(config).imports("own").files


def test_a_module_s_config_may_be_one_key_of_another_one(clone, mine):
    whole = textwrap.indent(WHOLE.replace("MODULE", "models/own.py"), "  ")
    write(mine, ours=f"publish: here\nfoundry:\n{whole}")
    from pte_foundry.config.yamlfiles import read

    data = read(mine / "ours.yaml", mine).data["foundry"]
    assert parsed(clone, mine / "ours.yaml", data=data).project("own") == mine
    write(mine, ours=f"publish: here\nfoundry:\n{whole.replace('iOS18', 'iOS99')}")
    data = read(mine / "ours.yaml", mine).data["foundry"]
    with pytest.raises(ConfigError, match=r"ours\.yaml:5: targets\.phone\.minimum_os"):
        parsed(clone, mine / "ours.yaml", data=data)


def test_a_module_s_config_written_in_its_snakefile_is_relative_to_that(clone, mine):
    data = {
        "models": {"own": {"module": "models/own.py", "weights": {"train": True}}},
        "builds": [{"models": ["own"], "recipes": ["boxed"], "targets": ["boxed"]}],
    }
    config = parsed(clone, data=data, others=[mine])
    assert config.project("own") == mine
    assert config.models.keys() == {"own", "boxed"}


def test_models_without_a_build_need_no_files_and_no_packages(clone, mine):
    """Until one of their files is asked for by path."""
    other = """\
    models:
      other: {module: nowhere.py, weights: {package: no-such-package, file: x, sha256: SHA}}
    """.replace("SHA", "a" * 64)
    write(mine, other=other, mine=WHOLE.replace("MODULE", "models/own.py"))
    config = parsed(clone, mine / "mine.yaml", mine / "other.yaml")
    assert config.built_models == ["own"]
    with pytest.raises(ConfigError, match=r"2 errors[\s\S]*no-such-package"):
        config.check_models(["own", "other"])


def test_a_command_in_another_folder_finds_the_default_of_its_library(mine):
    write(
        mine,
        over="""\
        extends: default
        builds: [{models: [digits_cnn], recipes: [fp16], targets: [ios18]}]
        """,
    )
    config = load(["over.yaml"], mine)
    assert config.built_models == ["digits_cnn"]
    assert config.module_file("digits_cnn").is_file()
