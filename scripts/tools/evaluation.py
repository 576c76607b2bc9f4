"""What `hybrid-lab eval --out` wrote, and which of its programs pass."""

import hashlib
import json
from pathlib import Path

import sandbox
from figures import Ranking, Way, gap, resamples

FENCE = "```python\n"
GATES = ["head", "max-probability", "margin", "entropy", "u-hlm", "random"]
SLM, LLM, ORACLE = ("slm", None, 1), ("llm", None, 1), ("oracle", None, 1)


class Judge:
    """Runs an answer's program against the problem's asserts, once."""

    def __init__(self, data: Path, cache: Path):
        problems = map(json.loads, data.read_text().splitlines())
        self.problems = {f"mbpp/{problem['task_id']}": problem for problem in problems}
        self.cache = cache
        self.passed = json.loads(cache.read_text()) if cache.exists() else {}

    def passes(self, prompt: str, id: str, text: str) -> bool:
        program = self.program(prompt, id, text)
        key = hashlib.sha256(program.encode()).hexdigest()
        if key not in self.passed:
            self.passed[key] = sandbox.passes(program)
            self.cache.write_text(json.dumps(self.passed))
        return self.passed[key]

    def program(self, prompt: str, id: str, text: str) -> str:
        problem = self.problems[id]
        begun = prompt.rsplit(FENCE, 1)[1]
        return "\n".join([begun + text, problem.get("test_setup_code", ""), *problem["test_list"]])


class Evaluation:
    """One output of `hybrid-lab eval`; with a judge also what passes."""

    def __init__(self, path: Path, judge: Judge = None):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        of = lambda kind: [line for line in lines if line["kind"] == kind]  # noqa: E731
        self.setup, self.rows = of("setup")[0], of("along-answers")
        self.sums = {way_of(line): line for line in of("sum")}
        labels = of("labels")[0]
        self.agrees, self.tokens = labels["agrees"], len(labels["agrees"])
        self.disagreements = self.agrees.count(0)
        prompts = {line["id"]: line["text"] for line in of("prompt")}
        self.ones = [1] * len(prompts)
        self.scores = {line["gate"]: line["scores"] for line in of("scores")}
        self.rankings = {gate: Ranking(scores, self.agrees, labels["prompts"]) for gate, scores in self.scores.items()}
        self.thresholds = {way_of(line): line["threshold"] for line in of("way") if "share" in line}
        sessions = {}
        for line in of("session"):
            sessions.setdefault(way_of(line), []).append(line)
        self.ways = {}
        for way, of_way in sessions.items():
            passed = [judge.passes(prompts[s["prompt"]], s["prompt"], s["text"]) if judge else False for s in of_way]
            self.ways[way] = Way(of_way, passed)

    def resamples(self):
        return resamples(len(self.ones))

    def gated(self, gate: str, tokens: int = 1) -> list:
        """The ways of a gate with so many tokens a consult, at whatever threshold."""
        return [way for (name, point, burst), way in self.ways.items() if name == gate and point is not None and burst == tokens]

    def gates(self) -> list:
        """Those with sessions, the head first."""
        return [gate for gate in GATES if self.gated(gate)]

    def gap(self, gate: str, share: float, weights: list) -> float:
        return gap(self.ways[SLM], self.ways[LLM], self.gated(gate), share, weights)

    def points(self, gate: str, what: str, weights: list, tokens: int = 1) -> list:
        """Of the curve of `rate` or `same` over the share of cloud tokens, from the SLM alone to the cloud LLM alone."""
        ways = [self.ways[SLM], *self.gated(gate, tokens), self.ways[LLM]]
        return sorted((way.share(weights), getattr(way, what)(weights)) for way in ways)


def way_of(line: dict) -> tuple:
    """Gate, what its threshold was set by (a share, or the name of a rule), tokens a consult."""
    return line["gate"], line.get("share", line.get("rule")), line["burst"]
