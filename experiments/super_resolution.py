"""Does a loss on features lose to one on pixels by PSNR, and win by features?

Johnson et al. 2016, section 4.2 and table 1 there: the per-pixel loss has the higher PSNR and SSIM, the feature loss
the sharper pictures and a cross-hatch pattern under magnification.

Rows: both losses for four times, and for eight.

Command: python -m dnn_research.main --config experiments/super_resolution.py:pixel-x4,laptop
"""

BASELINE = "configs/super_resolution.py"

ROWS = {
    "pixel-x4": {"task.loss": "pixel"},
    "feature-x4": {"task.loss": "feature"},
    "pixel-x8": {"task.loss": "pixel", "model.factor": 8},
    "feature-x8": {"task.loss": "feature", "model.factor": 8},
}

SEEDS = (0,)

CLAIMS = {
    "the pixel loss has the higher PSNR": "eval/psnr: pixel-x4 > feature-x4",
    "the feature loss has the nearer features": "eval/feature_loss: feature-x4 < pixel-x4",
}
