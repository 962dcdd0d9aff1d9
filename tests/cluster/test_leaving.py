"""What a trial's process learns of its node's end, with Ray's answers played."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster import leaving

PATIENCE_SECONDS = 60


class Head:
    """Answers with each of ``answers`` once, then always with the last."""

    def __init__(self, *answers: dict[str, int] | Exception) -> None:
        self.answers = list(answers)
        self.num_asked = 0

    def get_draining_nodes(self) -> dict[str, int]:
        answer = self.answers[min(self.num_asked, len(self.answers) - 1)]
        self.num_asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def notices(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, int] | Exception) -> int:
    """How many notices the process on the node "ours" gets until all ``answers`` were looked at, and once more."""
    head = Head(*answers)
    context: Any = SimpleNamespace(get_node_id=lambda: "ours")
    monkeypatch.setattr(leaving, "ray", SimpleNamespace(get_runtime_context=lambda: context))
    monkeypatch.setattr(leaving, "state", SimpleNamespace(state=head))
    deadline, found = time.monotonic() + PATIENCE_SECONDS, 0
    with leaving.node_leaves_once(seconds=0.01) as node_leaves:
        while head.num_asked < len(answers) + 2 and time.monotonic() < deadline:
            found += node_leaves()
        found += node_leaves()
        assert not node_leaves()
    assert head.num_asked >= len(answers) + 2
    return found


def test_a_notice_counts_once_however_often_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notices(monkeypatch, {}, {"ours": 5000}, {"ours": 5000}, {"ours": 5000, "another": 1}) == 1


def test_other_nodes_are_of_no_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notices(monkeypatch, {"another": 5000}, {"another": 6000}) == 0


@pytest.mark.parametrize("answer", [ConnectionError("the head is gone"), AttributeError("get_draining_nodes")])
def test_no_answer_is_no_notice_and_no_error(monkeypatch: pytest.MonkeyPatch, answer: Exception) -> None:
    assert notices(monkeypatch, answer) == 0
    assert notices(monkeypatch, answer, {"ours": 0}) == 1  # 0: a notice without a deadline
