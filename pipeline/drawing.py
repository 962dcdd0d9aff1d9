"""What pictures share: checking for matplotlib and its formats, and writing a file whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import write_file


def check_drawing(path: str | None, *, extra: str = "figures") -> None:
    """Raise ``UserError`` if matplotlib is not installed, or has no format for the ending of ``path``.

    Args:
        extra: the extra of this package that installs matplotlib.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise UserError(f"drawing needs matplotlib; install the extra: pip install 'recurray[{extra}]'") from None
    ending, known = Path(path or "").suffix[1:].lower(), FigureCanvasBase.get_supported_filetypes()
    if ending and ending not in known:
        raise UserError(f"{path} must end with .{', .'.join(sorted(known))}", argument="figure")


def save(figure: Any, path: str | Path, *, argument: str = "figure") -> None:
    """Write ``figure`` in the format that the ending of ``path`` names, or PNG without one.

    Raises:
        UserError: there is no such format, or the file cannot be written; an earlier one is kept.
    """
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=Path(path).suffix[1:] or "png")
    except ValueError as error:
        raise UserError(f"cannot write {path}: {error}", argument=argument) from None
    write_file(path, picture.getvalue(), argument=argument)
