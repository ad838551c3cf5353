"""The greedy searches of the script of arXiv 2411.09263."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from sweep.core.weights import Heads


def halved(start: Tensor, members: Tensor, score: Callable[[Tensor], float], best: float) -> Tensor:
    """The soup of a search that accepts (soup + member) / 2 if it scores above `best`; members in their order.

    `start` (entries,) is the first soup and `best` its score; members are (members, entries).
    """
    soup = start
    for member in members:
        trial = (soup + member) / 2
        accuracy = score(trial)
        if accuracy > best:
            soup = trial
            best = accuracy
    return soup


def indexed(members: Tensor, score: Callable[[Tensor], float]) -> tuple[Tensor, list[int]]:
    """The soup (entries,) of `greedy_indexed` and the positions of the members that it accepts."""
    soup = members[0]
    accepted = [0]
    best = score(soup)
    for index in range(1, len(members)):
        trial = (soup * index + members[index]) / (index + 1)
        accuracy = score(trial)
        if accuracy > best:
            soup = trial
            best = accuracy
            accepted.append(index)
    return soup, accepted


def accepted_members(
    searched: Tensor, score: Callable[[Tensor], float], record: Callable[[Sequence[float]], None]
) -> list[int]:
    """Positions of the members that `greedy_indexed` accepts, recorded with equal coefficients.

    `searched` (members, entries) are the weights whose soup the search scores.
    """
    _, accepted = indexed(searched, score)
    record([(index in accepted) / len(accepted) for index in range(len(searched))])
    return accepted


def average(accepted: list[int], logits: Tensor, features: Tensor, heads: Heads, space: str) -> Tensor:
    """Mean logits of the accepted members, or their mean features through their mean head. (examples, classes)."""
    if space == "logits":
        return logits[accepted].mean(0)
    return features[accepted].mean(0) @ heads.weight[accepted].mean(0).T + heads.bias[accepted].mean(0)
