"""Write a trained model as a folder that other tools open.

  --format hf     transformers, and with it lm_eval, minicons, Trainer;
                  pass trust_remote_code=True to from_pretrained(FOLDER)
  --format onnx   ONNX Runtime: model.onnx, for single steps and for windows
  --format torch  this project: a model folder that every job takes as --run

What hf and onnx wrote is compared with the model before the folder gets its
name.
--revision NAME writes a checkpoint of train.checkpoint_at_words (chck_1M);
--revision all writes each of them into a folder of its own, beside main.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from jobs.shared import models
from jobs.shared.cli import run_job
from jobs.shared.models import add_run, load
from jobs.shared.options import parser
from pipeline.errors import UserError

ALL = "all"
# texts on which an exported tokenizer is compared with ours
NUM_TEXTS = 10_000


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    folder = Path(arguments.to)
    if os.path.lexists(folder):
        raise UserError(f"--to: {folder} exists already; name a folder that does not")
    if arguments.license is not None and arguments.format != "hf":
        raise UserError(f"--license: is a field of --format hf, not of {arguments.format}")
    models.check(arguments)
    if arguments.revision == ALL:
        return write_all(folder, arguments)

    loaded = load(arguments.run, arguments) if arguments.revision is None else load_revision(arguments)
    write(loaded, folder, arguments)
    print(f"{loaded.title} written to {folder}")
    return {"output": str(folder), "format": arguments.format, "checkpoint": str(loaded.path)}


def load_revision(arguments: argparse.Namespace) -> Any:
    """Load the checkpoint that --revision names. Raises ``UserError`` if the run has none of that name."""
    from pipeline.training.word_marks import find_revision

    if arguments.checkpoint is not None:
        raise UserError("--revision: names a checkpoint itself; leave out --checkpoint")
    return load(str(find_revision(arguments.run, arguments.revision)), arguments)


def write_all(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write every revision of a run into ``folder``, and as main the checkpoint that is meant without a revision.

    Raises:
        UserError: there is none, or the format cannot hold one; nothing is written then.
    """
    from pipeline.files import new_folder
    from pipeline.training.word_marks import MAIN, revisions

    found = revisions(arguments.run)
    if not found:
        raise UserError(f"--revision: {arguments.run} has no checkpoint of train.checkpoint_at_words")
    named = argparse.Namespace(**{**vars(arguments), "checkpoint": None})  # that is for a run, not for its checkpoints
    written = {}
    with new_folder(folder, argument="to") as temporary:
        for name, path in {**found, MAIN: Path(arguments.run)}.items():
            loaded = load(str(path), arguments if name == MAIN else named)
            write(loaded, temporary / name, arguments)
            written[name] = str(loaded.path)
            print(f"{loaded.title} written to {folder / name}")
    return {"output": str(folder), "format": arguments.format, "revisions": written}


def write(loaded: Any, folder: Path, arguments: argparse.Namespace) -> None:
    """Write ``loaded`` in the chosen format. Raises ``UserError`` if the format cannot hold it."""
    if arguments.format == "hf":
        from pipeline.export.hugging_face import export_hugging_face

        return export_hugging_face(loaded, folder, num_texts=NUM_TEXTS, license_name=arguments.license or "unknown")
    from pipeline.compress import folder as folders

    if arguments.format == "torch":
        folders.write_model_folder(folder, loaded, dtype=loaded.model.dtype, argument="to")
        return None
    from pipeline.compress.onnx_card import onnx_facts
    from pipeline.compress.onnx_export import export
    from pipeline.export.samples import checked_tokens

    content = export(loaded.model.float(), checked_tokens(loaded), facts=onnx_facts(loaded))
    folders.write_onnx_folder(folder, content, loaded, weights="float32", argument="to")
    return None


def argument_parser() -> argparse.ArgumentParser:
    result = parser("export", __doc__ or "", takes_config=False)
    add_run(result)
    result.add_argument("--to", required=True, metavar="FOLDER", help="the folder to write; it must not exist")
    result.add_argument("--format", required=True, choices=["hf", "onnx", "torch"], help="see above")
    result.add_argument("--revision", metavar="NAME", help="the checkpoint after that many words: chck_1M; or all")
    result.add_argument("--license", metavar="NAME", help="the model's license, for its card (hf); default: unknown")
    return result


if __name__ == "__main__":
    run_job(main)
