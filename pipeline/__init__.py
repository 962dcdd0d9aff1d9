"""Recurray: raw text → tokens → Arrow shards → streams → recurrent language model → text and figures.

Read in the order of the flow: ``config``, ``data``, ``model``, ``metrics``, ``evaluate``, ``generate``,
``training``, ``compress``, ``run``, ``cluster``. Each imports only what stands before it, and only ``cluster`` knows
Ray.
"""
