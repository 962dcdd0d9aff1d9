"""The whole configuration: one schema, one merge, one validator.

defaults < the base of a YAML file < the file < ``section.field=value`` on the command line < a search sample

``load`` turns those layers into one frozen ``Config``, or raises one ``UserError`` that lists every
mistake by its dotted path. Each module downstream receives only its own section. Neither torch nor Ray
is imported here, so help and errors about settings appear at once.
"""

from pipeline.config.cluster import ClusterConfig
from pipeline.config.compare import CompareConfig
from pipeline.config.data import FORMATS, CorpusConfig, DataConfig, Layout, TokenizerConfig
from pipeline.config.ddp import DdpConfig
from pipeline.config.former import name_now
from pipeline.config.loading import (
    data_fingerprint,
    dump,
    field_value,
    get,
    load,
    to_yaml,
    validate,
    with_values,
)
from pipeline.config.model import ModelConfig
from pipeline.config.names import meant_by, section_fields
from pipeline.config.optimizer import OptimizerConfig, PruneConfig
from pipeline.config.running import EvaluateConfig, RunConfig
from pipeline.config.schema import Config, check_accumulation
from pipeline.config.search import SearchConfig
from pipeline.config.training import TrainConfig

__all__ = [
    "FORMATS",
    "ClusterConfig",
    "CompareConfig",
    "Config",
    "CorpusConfig",
    "DataConfig",
    "DdpConfig",
    "EvaluateConfig",
    "Layout",
    "ModelConfig",
    "OptimizerConfig",
    "PruneConfig",
    "RunConfig",
    "SearchConfig",
    "TokenizerConfig",
    "TrainConfig",
    "check_accumulation",
    "data_fingerprint",
    "dump",
    "field_value",
    "get",
    "load",
    "meant_by",
    "name_now",
    "section_fields",
    "to_yaml",
    "validate",
    "with_values",
]
