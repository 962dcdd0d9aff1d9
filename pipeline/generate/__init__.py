"""A model writes texts after prompts, one token at a time, in constant memory.

prompt → ids → state → logits → filtered weights → one uniform number → token → text as soon as its bytes are complete

``sampling`` turns logits into a token, ``stepper`` advances the model by one token, ``sampler`` continues many prompts
at once, ``beam`` looks for the likeliest text, ``text`` turns tokens into characters, ``writing`` combines them;
``prompts`` reads and saves files.
"""

from pipeline.generate.beam import beam_search, likeliest_texts
from pipeline.generate.prompts import read_prompts, save_rows
from pipeline.generate.text import UntilStop, prompt_ids
from pipeline.generate.writing import Written, generate, generate_batch, write_sample
from pipeline.options import Sampling, check_beams

__all__ = [
    "Sampling",
    "UntilStop",
    "Written",
    "beam_search",
    "check_beams",
    "generate",
    "generate_batch",
    "likeliest_texts",
    "prompt_ids",
    "read_prompts",
    "save_rows",
    "write_sample",
]
