#!/usr/bin/env python3
"""Fits a reward head to the records of `hybrid-lab collect` and writes it as ONNX.

    pip install -r tools/python/requirements.txt
    fit_head.py BUNDLE RECORDS OUT
    hybrid reward BUNDLE OUT
    hybrid calibrate BUNDLE --records RECORDS      # sets thresholds, by the validation prompts

A start for heads of your own. docs/reward-head.md lists what records and heads may have.
"""
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx.parser
from onnx.numpy_helper import from_array
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

bundle, records, out = map(Path, sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
slm = json.loads((bundle / "bundle.json").read_text())["model"]
splits = {"train": [], "validation": []}
for path in sorted(records.glob("*.safetensors")):
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["about"])
        if about["slm_sha256"] != slm["source_sha256"]:
            sys.exit(f"{path} was collected with another SLM than {slm['name']}")
        parts = [file.get_tensor(name) for name in ["stats", "hidden", "hidden_after"]]
        rows = np.hstack(parts).astype(np.float32), file.get_tensor("agrees")
        splits.setdefault(about["split"], []).append(rows)
if not (splits["train"] and splits["validation"]):
    sys.exit(f"{records} needs records of the splits train and validation")
data = {name: [np.concatenate(part) for part in zip(*rows)] for name, rows in splits.items()}

features, agrees = data["train"]
mean, scale = features.mean(0), np.maximum(features.std(0), 1e-3)
fitted = LogisticRegression(C=0.003, max_iter=1000).fit((features - mean) / scale, agrees)
weight = fitted.coef_ / scale
constants = {"weight": weight, "bias": fitted.intercept_ - weight @ mean}
for name, (features, agrees) in data.items():
    print(f"{name}: {len(agrees)} tokens, AUC {roc_auc_score(agrees, features @ weight[0]):.4f}")

head = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
    head (float[1,16] stats, float[1,{slm["hidden_size"]}] hidden,
        float[1,{slm["hidden_size"]}] hidden_after) => (float[1,1] reward) {{
        all = Concat<axis = 1>(stats, hidden, hidden_after)
        sum = Gemm<transB = 1>(all, weight, bias)
        reward = Sigmoid(sum)
    }}""")
head.graph.initializer.extend(from_array(np.float32(of), name) for name, of in constants.items())
reward = {"after": True, "cloud_model": about["llm"], "provenance": "fit_head.py"}
reward |= {"default_threshold": 0.5, "calibration": []}
about = {"onnx_sha256": hashlib.sha256(head.SerializeToString()).hexdigest(), "reward": reward}
about["slm"] = {key: slm[key] for key in ["name", "source", "source_sha256", "hidden_size"]}
out.mkdir(parents=True, exist_ok=True)
(out / "reward.onnx").write_bytes(head.SerializeToString())
(out / "reward.json").write_text(json.dumps({"format_version": 1, "training": {}} | about))
