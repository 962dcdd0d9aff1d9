"""``report.md``: what a search found, for people to read, with pictures, the leaderboard and the command for the best.

standing + space + rungs → importance, pictures (PNG, and TensorBoard's images) → report.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.search import pictures
from pipeline.search.confirm import Confirmed
from pipeline.search.corpora import has_other_tokens
from pipeline.search.domains import Domain
from pipeline.search.importance import Importance, importances
from pipeline.search.leaderboard import BEST, LEADERBOARD, Row, rows_of
from pipeline.search.naming import TRIALS, describe, short
from pipeline.search.space import Space
from pipeline.search.standing import FAILED, LOST, Standing
from pipeline.search.tensorboard import write_search, write_trials

REPORT, PICTURES = "report.md", "pictures"
MOST_ROWS = 20
MOST_PAIRED = 3  # settings whose pairs are drawn, the most important
CAPTIONS = {
    "curves": "Validation perplexity of every trial over the tokens it was trained on; the dashed lines are the rungs.",
    "settings": "Each setting against the best perplexity of each trial; with more tokens, darker and larger.",
    "pairs": "The most important settings against each other; the darker, the better.",
    "importance": "How much each setting mattered, by two evaluators.",
    "lineage": "Who took the state of whom.",
}


@dataclass(frozen=True)
class Findings:
    """What a report is made from: where a search stands, and its configuration."""

    config: Config
    space: Space
    milestones: Sequence[int]
    budget_tokens: int
    standing: Standing
    exploits: Sequence[Mapping[str, Any]] = ()
    is_over: bool = True  # False: it was asked to stop, and the same command continues it

    @property
    def unit(self) -> str:
        """What trials are compared by."""
        return "perplexity per byte" if has_other_tokens(self.space) else "perplexity"

    @property
    def levels(self) -> list[int]:
        """The numbers of tokens at which trials can be compared."""
        return sorted({*self.milestones, self.budget_tokens})


def write_report(directory: Path, findings: Findings) -> list[str]:
    """Write report.md, the pictures and what TensorBoard shows of the search; return what is missing and why.

    Raises:
        UnwritableError: a file could not be written; the former one is unchanged.
    """
    found, missing = importance_of(findings)
    drawn, why_not = pictures_of(findings, found)
    missing += [sentence for sentence in why_not if sentence not in missing]
    (directory / PICTURES).mkdir(exist_ok=True)
    for former in (directory / PICTURES).glob("*.png"):
        if former.stem not in drawn:
            former.unlink(missing_ok=True)
    for name, png in drawn.items():
        write_file(directory / PICTURES / f"{name}.png", png)
    write_trials(directory / TRIALS, list(findings.standing.trials.values()), findings.space)
    write_search(directory, findings.space, drawn)
    write_file(directory / REPORT, as_markdown(directory, findings, found, list(drawn), missing))
    return missing


def importance_of(findings: Findings) -> tuple[list[Importance], list[str]]:
    """The importance of each setting, or why there is none."""
    try:
        return importances(findings.standing, findings.space, findings.levels), []
    except UserError as error:
        return [], [f"no importance of settings: {error}"]


def pictures_of(findings: Findings, found: Sequence[Importance]) -> tuple[dict[str, bytes], list[str]]:
    """Each picture as PNG by its name, or why there are none."""
    trials, space = findings.standing.drawn, findings.space
    if not any(trial.reports for trial in trials):
        return {}, ["no pictures: no trial has been validated yet"]
    try:
        made = {
            "curves": pictures.curves(trials, findings.levels, findings.unit),
            "settings": pictures.against_result(space, trials, findings.unit),
        }
        if len(paths := most_important(space, found)) > 1:
            made["pairs"] = pictures.pairs(space, trials, paths, findings.unit)
        if any(each.shares for each in found):
            made["importance"] = pictures.importance(found)
        if findings.exploits:
            made["lineage"] = pictures.lineage(trials, findings.exploits)
        return {name: pictures.as_png(figure) for name, figure in made.items()}, []
    except UserError as error:
        return {}, [f"no pictures: {error}"]


def most_important(space: Space, found: Sequence[Importance]) -> list[str]:
    """The settings to look at in pairs: the two most important by each evaluator; without any, the first two."""
    paths = dict.fromkeys(share.path for each in found for share in each.shares[:2])
    return list(paths)[:MOST_PAIRED] or list(space)[:2]


def as_markdown(
    directory: Path, findings: Findings, found: Sequence[Importance], drawn: Sequence[str], missing: Sequence[str]
) -> str:
    """The whole report."""
    rows = rows_of(findings.standing)
    parts = [
        f"# {directory.name}: a search of {len(rows)} trials",
        summary(findings, rows),
        best(directory, rows, findings),
        *([f"![{CAPTIONS['curves']}]({PICTURES}/curves.png)", CAPTIONS["curves"]] if "curves" in drawn else []),
        "## Leaderboard",
        leaderboard(rows, list(findings.space), findings.unit),
        "## What mattered",
        *importance_table(found, findings.space),
    ]
    for name in drawn:
        if name != "curves":
            parts += [f"![{CAPTIONS[name]}]({PICTURES}/{name}.png)", CAPTIONS[name]]
    parts += ["## What was searched", space_table(findings.space)]
    if bad := [trial for trial in findings.standing.trials.values() if trial.status in (LOST, FAILED)]:
        lines = [f"- {trial.name}: {trial.end['reason']}" for trial in bad if trial.end is not None]
        parts += ["## Trials that were lost or failed", "\n".join(lines)]
    if missing:
        parts += ["## What is missing here", "\n".join(f"- {sentence}" for sentence in missing)]
    return "\n\n".join(parts) + "\n"


def summary(findings: Findings, rows: Sequence[Row]) -> str:
    """How the search was made and what it took."""
    settings, standing = findings.config.search, findings.standing
    levels = ", ".join(f"{level:,}" for level in findings.milestones)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    whole = findings.budget_tokens * max(1, len(standing.trials))  # with those that confirm others
    sentences = [
        f"Drawn by `{settings.algorithm}` (seed {settings.seed}), run by `{settings.scheduler}`"
        + (f" with rungs at {levels} tokens" if levels else "")
        + f"; a whole trial has {findings.budget_tokens:,} tokens.",
        f"{', '.join(f'{number} {status}' for status, number in counts.items())}. "
        f"{standing.num_tokens:,} tokens in all, {standing.num_tokens / whole:.0%} of what the same trials would have "
        "taken if each had run to its end.",
    ]
    if standing.num_refused:
        sentences.append(f"{standing.num_refused:,} draws were refused and drawn again.")
    return "\n".join(sentences)


def best(directory: Path, rows: Sequence[Row], findings: Findings) -> str:
    """The winner, how certain it is, and the command that trains it; the best so far if the search was stopped."""
    stopped = "" if findings.is_over else "The search was stopped before its end; the same command continues it.\n\n"
    if not rows or not rows[0].is_whole:
        return stopped + "No trial has a perplexity yet."
    row = rows[0]
    text = f"{stopped}**Best{'' if findings.is_over else ' so far'}: {findings.unit} {row.perplexity:,.3f}** after "
    text += f"{row.tokens:,} tokens: `{describe(row.settings)}`"
    if row.confirmed is None:
        text += " (from one seed; `search.confirm` trains the best again with others)"
    else:
        text += over_seeds(row.confirmed)
    train = f"    python -m jobs.train --config {directory / BEST}\n" if findings.is_over else ""
    return f"{text}.\n\n{train}    tensorboard --logdir {directory}\n\nAll rows: [{LEADERBOARD}]({LEADERBOARD})."


def leaderboard(rows: Sequence[Row], paths: Sequence[str], unit: str) -> str:
    """The first rows as a table, a column for each of the settings at ``paths``."""
    has_means = any(row.confirmed for row in rows)
    head = ["", unit, *(["mean of seeds"] if has_means else []), *paths, "tokens", "status"]
    lines = [head, ["---"] * len(head)]
    for rank, row in enumerate(rows[:MOST_ROWS], start=1):
        means = [mean_of(row)] if has_means else []
        figure = "" if row.perplexity is None else f"{row.perplexity:,.3f}"
        settings = [short(row.settings[path]) if path in row.settings else "" for path in paths]
        lines.append([str(rank), figure, *means, *settings, f"{row.tokens:,}", row.status])
    table = as_table(lines)
    left = len(rows) - MOST_ROWS
    return f"{table}\n\n… and {left} more." if left > 0 else table


def over_seeds(found: Confirmed) -> str:
    """What training with other seeds says, to be added to a sentence."""
    text = ""
    if found.num_seeds:
        text = f"; with {found.num_seeds} other seed{'s' * (found.num_seeds > 1)} {found.perplexity:,.3f}"
    if found.low is not None:
        text += f" (95 % interval of the mean: {found.low:,.3f} to {found.high:,.3f})"
    if found.num_lost:
        others = "more" if found.num_seeds else "other seed" + "s" * (found.num_lost > 1)
        text += f"; **with {found.num_lost} {others} the run was lost**"
    return text


def mean_of(row: Row) -> str:
    """The perplexity over seeds and its interval, and with how many more the run was lost."""
    found = row.confirmed
    if found is None:
        return ""
    parts = [f"{found.perplexity:,.3f}"] * bool(found.num_seeds)
    parts += [f"({found.low:,.3f} to {found.high:,.3f})"] * (found.low is not None)
    return " ".join([*parts, *[f"{found.num_lost} lost"] * bool(found.num_lost)])


def importance_table(found: Sequence[Importance], space: Space) -> list[str]:
    """What each evaluator says, what that means, and what it rests on."""
    parts = []
    shown = [each for each in found if each.shares]
    if shown:
        head = ["setting", *(each.evaluator for each in shown)]
        lines = [head, ["---"] * len(head)]
        for path in (share.path for share in shown[0].shares):
            cells = []
            for each in shown:
                share = next((share for share in each.shares if share.path == path), None)
                among = f" (of {share.num_trials} trials)" if share and share.num_trials < each.num_trials else ""
                cells.append("" if share is None else f"{share.share:.0%}{among}")
            lines.append([f"`{path}`", *cells])
        parts.append(as_table(lines))
    for each in found:
        rests = f"{each.num_trials} trials, compared at {each.tokens:,} tokens"
        warning = f" **But {each.warning}.**" if each.warning else ""
        parts.append(f"- {each.evaluator}: {each.meaning}; {rests}.{warning}")
    return ["\n\n".join(parts[:1]), "\n".join(parts[1:])] if shown else ["\n".join(parts)] if parts else []


def space_table(space: Space) -> str:
    lines = [["setting", "drawn from", "where"], ["---"] * 3]
    for path, domain in space.items():
        lines.append([f"`{path}`", drawn_from(domain), condition(domain)])
    return as_table(lines)


def drawn_from(domain: Domain) -> str:
    """``loguniform from 0.0001 to 0.01``."""
    if not domain.is_range:
        return ", ".join(map(short, domain.arguments))
    step = f" in steps of {domain.step:g}" if domain.kind.startswith("q") else ""
    return f"{domain.kind} from {domain.low:g} to {domain.high:g}{step}"


def condition(domain: Domain) -> str:
    """When a setting is searched at all."""
    return " and ".join(f"`{path}` is {' or '.join(map(short, values))}" for path, values in domain.when.items())


def as_table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
