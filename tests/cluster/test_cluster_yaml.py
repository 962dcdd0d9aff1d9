"""Ray's own launcher takes cluster.yaml."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.aws.config import DEFAULT_AMI, _check_ami
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


def test_ray_accepts_the_cluster_file() -> None:
    config = prepare_config(yaml.safe_load(CLUSTER.read_text()))
    validate_config(config)
    assert config["available_node_types"]["gpu_worker"]["resources"]["GPU"] == 1
    assert "RAY_AUTH_MODE=token" in config["head_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token" in config["worker_start_ray_commands"][-1]


def test_no_node_starts_from_the_image_that_ray_takes_by_default() -> None:
    """That one has Ubuntu 18.04: its Python and its driver are too old for anything here."""
    config = prepare_config(yaml.safe_load(CLUSTER.read_text()))
    _check_ami(config)  # fills in Ray's own image where none is named
    images = {node["node_config"]["ImageId"] for node in config["available_node_types"].values()}
    assert images == {"ami-OF-YOUR-REGION"}
    assert not images & set(DEFAULT_AMI.values())


def test_the_head_node_gets_what_asks_aws_for_nodes_from_our_versions() -> None:
    config = prepare_config(yaml.safe_load(CLUSTER.read_text()))
    installs = [command for command in config["head_setup_commands"] if "boto3" in command]
    assert installs == ["~/venv/bin/pip install -q -c ~/recurray/constraints.txt boto3"]
    assert "boto3==" in (CLUSTER.parent / "constraints.txt").read_text()


def test_the_nodes_get_what_the_search_of_the_guide_needs() -> None:
    """The guide submits a search with Optuna, which is an extra."""
    guide = (CLUSTER.parent / "docs" / "cluster.md").read_text()
    recipe = CLUSTER.parent / "configs" / "quickstart-search.yaml"
    assert f"jobs.submit search --address http://127.0.0.1:8265 --config configs/{recipe.name}" in guide
    assert yaml.safe_load(recipe.read_text())["search"]["algorithm"] == "tpe"
    setup = yaml.safe_load(CLUSTER.read_text())["setup_commands"]
    assert "cd ~/recurray && ~/venv/bin/pip install -q -c constraints.txt -e '.[search]'" in setup


def test_ray_refuses_a_cluster_file_with_a_mistake() -> None:
    config = yaml.safe_load(CLUSTER.read_text())
    config["max_wokers"] = 3
    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config(config))
