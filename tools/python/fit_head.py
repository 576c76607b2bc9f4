#!/usr/bin/env python3
"""Fits a reward head to the records of `hybrid-lab collect` and writes it as ONNX.

    pip install -r tools/python/requirements.txt
    fit_head.py BUNDLE RECORDS OUT [--units N]     # N: with a hidden layer of so many units
    hybrid reward BUNDLE OUT
    hybrid calibrate BUNDLE --records RECORDS      # sets thresholds, by the validation prompts

A start for heads of your own: replace `fit`. docs/reward-head.md lists a record's tensors, and the
inputs and operators that a head may have.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.helper import make_tensor_value_info
from onnx.numpy_helper import from_array
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

INPUTS = ["stats", "hidden", "hidden_after"]  # the head's, and the records' tensors


def read(folder: Path) -> tuple[dict, dict]:
    """Features and labels by split, and what the last record says of itself."""
    rows, about = {}, None
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["about"])
            features = np.hstack([file.get_tensor(name).astype(np.float32) for name in INPUTS])
            rows.setdefault(about["split"], []).append((features, file.get_tensor("agrees")))
    if not {"train", "validation"} <= rows.keys():
        raise SystemExit(f"{folder} needs records of the splits train and validation")
    return {name: [np.concatenate(part) for part in zip(*of)] for name, of in rows.items()}, about


def fit(features: np.ndarray, agrees: np.ndarray, units: int) -> Pipeline:
    line = LogisticRegression(C=0.003, max_iter=1000)
    net = MLPClassifier((units,), alpha=1.0, early_stopping=True, random_state=0)
    return make_pipeline(StandardScaler(), net if units else line).fit(features, agrees)


def graph(fitted: Pipeline, hidden_size: int) -> bytes:
    """The head as ONNX: standardised inputs, layers with Relu between them, a sigmoid."""
    scaler, last = fitted[0], fitted[-1]
    layers = [(last.coef_.T, last.intercept_)] if hasattr(last, "coef_") else None
    layers = layers or list(zip(last.coefs_, last.intercepts_))
    constants = {"mean": scaler.mean_[None], "scale": scaler.scale_[None]}
    nodes = [
        helper.make_node("Concat", INPUTS, ["all"], axis=1),
        helper.make_node("Sub", ["all", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["x0"]),
    ]
    for at, (weight, bias) in enumerate(layers):
        constants |= {f"weight{at}": weight, f"bias{at}": bias}
        nodes.append(helper.make_node("Gemm", [f"x{at}", f"weight{at}", f"bias{at}"], [f"sum{at}"]))
        nodes.append(helper.make_node("Relu", [f"sum{at}"], [f"x{at + 1}"]))
    nodes[-1] = helper.make_node("Sigmoid", [f"sum{len(layers) - 1}"], ["reward"])
    sizes = {"stats": 16, "hidden": hidden_size, "hidden_after": hidden_size, "reward": 1}
    *ins, out = [
        make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in sizes.items()
    ]
    weights = [from_array(np.float32(values), name) for name, values in constants.items()]
    body = helper.make_graph(nodes, "reward", ins, [out], weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ["bundle", "records", "out"]:
        parser.add_argument(name, type=Path)
    parser.add_argument("--units", type=int, default=0)
    options = parser.parse_args()
    slm = json.loads((options.bundle / "bundle.json").read_text())["model"]
    splits, about = read(options.records)
    if about["slm_sha256"] != slm["source_sha256"]:
        raise SystemExit(f"{options.records} was collected with another SLM than {slm['name']}")
    fitted = fit(*splits["train"], options.units)
    for name, (features, agrees) in splits.items():
        auc = roc_auc_score(agrees, fitted.predict_proba(features)[:, 1])
        print(f"{name}: {len(agrees)} tokens, AUC {auc:.4f}")
    head = graph(fitted, slm["hidden_size"])
    reward = {"after": True, "cloud_model": about["llm"], "provenance": "fit_head.py"}
    description = {
        "format_version": 1,
        "onnx_sha256": hashlib.sha256(head).hexdigest(),
        "slm": {key: slm[key] for key in ["name", "source", "source_sha256", "hidden_size"]},
        "reward": reward | {"default_threshold": 0.5, "calibration": []},
        "training": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "reward.onnx").write_bytes(head)
    (options.out / "reward.json").write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main()
