"""cleanlab in its own environment: `python cleanlab_scores.py LABELS PROBABILITIES SCORES`, all of them `.npy`.

Writes the class-adjusted normalised margin of each label. Nothing of Icekeel is imported.
"""

from __future__ import annotations

import sys

import numpy as np
from cleanlab.rank import get_label_quality_scores

labels, probabilities, scores = sys.argv[1:]
found = get_label_quality_scores(
    np.load(labels), np.load(probabilities), method="normalized_margin", adjust_pred_probs=True
)
np.save(scores, found)
