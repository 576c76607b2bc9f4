"""The sections of docs/quality.md about what a session may do besides asking for one token, and about another domain."""

from typing import NamedTuple

from evaluation import GATES, LLM, SLM, Evaluation
from quality_gates import along
from tables import percent, table

DELAYS = [0, 20, 80, 200]


class Pace(NamedTuple):
    """Seconds, as measured without a network delay."""

    step: float  # a token of the SLM
    consults: dict  # by tokens a consult: what one costs besides the steps

    @staticmethod
    def of(live: Evaluation) -> "Pace":
        slm = live.sums[SLM]
        step = slm["seconds"] / max(1, slm["tokens"])
        rest = {key[2]: (sum_["seconds"] - sum_["tokens"] * step) / max(1, sum_["consults"]) for key, sum_ in gated(live)}
        return Pace(step, {burst: max(0.0, seconds) for burst, seconds in rest.items()})

    def seconds(self, sum_: dict, delay: int) -> float:
        """Of the sessions of `sum_`, at a delay in milliseconds a consult."""
        return sum_["tokens"] * self.step + sum_["consults"] * (self.consults[sum_["burst"]] + delay / 1000)


def gated(evaluation: Evaluation) -> list:
    """The sums of gates at shares, or at thresholds given."""
    return [(key, sum_) for key, sum_ in evaluation.sums.items() if key[0] in GATES and not isinstance(key[1], str)]


def bursts(plain: Evaluation, handed: Evaluation, live: dict) -> list:
    """`plain` without and `handed` with hand-back. `live`: by delay in milliseconds."""
    pace = Pace.of(live[0]) if 0 in live else None
    both = [("no", *one) for one in gated(plain)] + [("yes", *one) for one in gated(handed) if one[0][2] > 1]
    rows = []
    for hand_back, key, sum_ in sorted(both, key=lambda one: (one[1][1], one[1][2], one[0])):
        way = (handed if hand_back == "yes" else plain).ways[key]
        row = [
            percent(key[1], 0), str(key[2]), hand_back, percent(sum_["obtained"]), percent(way.rate(plain.ones)),
            f"{sum_['identical']}/{sum_['prompts']}", f"{sum_['agreement']:.2f}", str(sum_["consults"]), str(sum_["prompt_tokens"]),
            str(sum_["answer_tokens"]),
        ]  # fmt: skip
        if pace:
            row += [f"{pace.seconds(sum_, delay):.0f}" for delay in DELAYS] if key[2] in pace.consults else ["–"] * len(DELAYS)
        rows.append(row)
    head = ["asked", "burst", "hand-back", "obtained", "pass@1", "identical", "agreement", "consults", "prompt tokens billed", "tokens billed"]
    head += [f"s at {delay} ms" for delay in DELAYS] if pace else []
    note = (
        f"## Bursts, hand-back and network delay\n\n{len(plain.ones)} problems, the head's gate. A consult brings up to so many tokens; thresholds are those of "
        "single tokens. With hand-back the SLM reads the burst in batches and tokens of which it is as sure count as its own ([deciding.md](deciding.md)); "
        "the server bills them all the same."
    )
    if not pace:
        return [note, table(head, rows)]
    costs = ", ".join(f"{1000 * seconds:.0f} ms with bursts of {burst}" for burst, seconds in sorted(pace.consults.items()))
    note += (
        f" Seconds are computed: {1000 * pace.step:.1f} ms for a token, and for a consult the delay and what it costs by itself ({costs}), both measured on "
        f"{len(live[0].ones)} problems as below."
    )
    return [note, table(head, rows), measured(live, pace)]


def measured(live: dict, pace: Pace) -> str:
    rows = []
    for delay, evaluation in live.items():
        for key, sum_ in [("llm", evaluation.sums[LLM]), *gated(evaluation)]:
            computed = "–" if key == "llm" else f"{pace.seconds(sum_, delay):.1f}"
            rows.append([
                f"{delay} ms", "cloud LLM alone" if key == "llm" else f"head, burst {sum_['burst']}", str(sum_["tokens"]), str(sum_["consults"]),
                str(sum_["bytes"]), f"{sum_['seconds']:.1f}", computed,
            ])  # fmt: skip
    first = next(iter(live.values()))
    return (
        f"Measured, {len(first.ones)} problems: llama.cpp's server behind nginx with TLS, and, but at 0 ms, before both a relay that holds every byte for half of the delay in "
        "each direction (`scripts/cloud-server --delay-ms`), SLM and cloud LLM on the same cores, everything computed anew, with hand-back. At 0 ms "
        "the computed figure is the measured one by its making; at the others it is foretold from that:\n\n"
        + table(["delay", "", "tokens", "consults", "bytes", "s measured", "s computed"], rows)
    )


def extras(evaluations: dict) -> list:
    """Each alone, with the plain sessions that it is to be compared with."""
    of = {name: dict(gated(evaluation)) for name, evaluation in evaluations.items()}
    rows = []
    for name, source, burst in [
        ("nothing", "bursts", 1), ("local rescue", "rescue", 1), ("correction cache", "corrections", 1),
        ("bursts of 4", "bursts", 4), ("bursts of 4, hand-back", "hand-back", 4),
    ]:  # fmt: skip
        for key, sum_ in of.get(source, {}).items():
            if key[2] == burst:
                evaluation = evaluations[source]
                rows.append([
                    name, percent(key[1], 0), percent(sum_["obtained"]), percent(evaluation.ways[key].rate(evaluation.ones)),
                    f"{sum_['identical']}/{sum_['prompts']}", f"{sum_['agreement']:.2f}", str(sum_["consults"]), str(sum_["prompt_tokens"]),
                ])  # fmt: skip
    if not rows:
        return []
    told = {name: evaluations[name].setup for name in ("rescue", "corrections") if name in evaluations}
    note = f"## Rescue, corrections and hand-back\n\n{len(next(iter(evaluations.values())).ones)} problems, the head's gate, each option alone. "
    if "rescue" in told:
        note += f"Local rescue tries {told['rescue']['rescue']} other tokens of the SLM before a consult. "
    if "corrections" in told:
        note += (
            f"The correction cache answers a place whose last {told['corrections']['corrections']} ids are as before; here it begins empty with every "
            "problem, so that it can only repeat what was asked in the same answer. "
        )
    head = ["besides asking", "asked", "obtained", "pass@1", "identical", "agreement", "consults", "prompt tokens billed"]
    return [note.rstrip(), table(head, rows)]


def second_domain(mbpp: Evaluation, other: Evaluation) -> list:
    rows = []
    for gate in GATES:
        for share in (0.1, 0.2):
            key = (gate, share, 1)
            if gate == "random" or key not in mbpp.thresholds or key not in other.thresholds:
                continue
            cells = []
            for threshold in (mbpp.thresholds[key], other.thresholds[key]):
                asked = [score < threshold for score in other.scores[gate]]
                found = sum(a and not agree for a, agree in zip(asked, other.agrees)) / max(1, other.disagreements)
                cells += [percent(sum(asked) / len(asked)), percent(found)]
            rows.append([gate, percent(share, 0), *cells])
    return [
        *along(other, "GSM8K"),
        f"{len(other.ones)} problems of GSM8K that the head was not trained on; another {other.setup['validation_prompts']} set thresholds of their own. "
        "Share that is asked for, and what is found, with the thresholds of MBPP and with their own. The ranking above is what carries over; where the "
        "share with MBPP's thresholds is not the one wanted, the head needs `hybrid calibrate` on such prompts:\n\n"
        + table(["gate", "wanted", "MBPP's: asked", "found", "own: asked", "found"], rows),
    ]
