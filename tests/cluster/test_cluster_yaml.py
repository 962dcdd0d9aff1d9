"""Ray's own launcher takes cluster.yaml."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


def test_ray_accepts_the_cluster_file() -> None:
    config = prepare_config(yaml.safe_load(CLUSTER.read_text()))
    validate_config(config)
    assert config["available_node_types"]["gpu_worker"]["resources"]["GPU"] == 1
    assert "RAY_AUTH_MODE=token" in config["head_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token" in config["worker_start_ray_commands"][-1]


def test_ray_refuses_a_cluster_file_with_a_mistake() -> None:
    config = yaml.safe_load(CLUSTER.read_text())
    config["max_wokers"] = 3
    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config(config))
