"""Does a loss on features lose to one on pixels by PSNR and SSIM, and win by features?

Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), figure 8 and section 4.2, four times on Set5: PSNR / SSIM 28.40 /
0.8205 with the per-pixel loss, 27.09 / 0.7680 with the feature loss, whose pictures are sharper; histograms matched to
the small picture's. Here it is crops of COCO's validation pictures, unmatched.

Rows: both losses for four times. The laptop scale: 64-pixel patches of built-in photographs, half the width, no
normalization, 600 steps of 16.
"""

BASELINE = "configs/super_resolution.py"

BASELINE_ROW = "pixel"

ROWS = {
    "pixel": {"task.loss": "pixel"},
    "feature": {"task.loss": "feature"},
}

LAPTOP = {
    "train.num_steps": 600,
    "eval.every_steps": 300,
    "checkpoint.every_steps": 300,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("psnr", "ssim", "feature_loss")

CLAIMS = (
    {
        "id": "S3-psnr",
        "says": "the feature loss has a lower PSNR than the per-pixel loss",
        "source": "Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), figure 8",
        "published": "27.09 - 28.40 = -1.31 dB",
        "row": "feature",
        "against": "pixel",
        "measure": "psnr",
        "direction": "lower",
        "effect": -1.31,
    },
    {
        "id": "S3-ssim",
        "says": "the feature loss has a lower SSIM than the per-pixel loss",
        "source": "Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), figure 8",
        "published": "0.7680 - 0.8205 = -0.05",
        "row": "feature",
        "against": "pixel",
        "measure": "ssim",
        "direction": "lower",
        "effect": -0.0525,
    },
    {
        "id": "S3-features",
        "says": "the feature loss comes nearer in features",
        "source": "Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), section 4.2",
        "published": "pictures",
        "row": "feature",
        "against": "pixel",
        "measure": "feature_loss",
        "direction": "lower",
    },
)
