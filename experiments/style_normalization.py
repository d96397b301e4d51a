"""Does instance normalization paint better than batch normalization?

Ulyanov, Vedaldi, Lempitsky 2016 (arXiv:1607.08022): a transform network that normalizes each picture by itself reaches
lower losses and makes better pictures. Odena, Dumoulin, Olah 2016 (distill.pub): transposed convolutions leave
checkerboards that repeated pixels followed by a convolution do not.

Rows: batch and instance normalization with transposed convolutions, instance normalization with repeated pixels. The
pictures are in each run's TensorBoard (`stylized/`, with record.images above 0). The laptop scale: 400 steps of two
96-pixel crops of thirteen built-in photographs, the published half-width network.
"""

BASELINE = "configs/style_transfer.py"

BASELINE_ROW = "batch"

ROWS = {
    "batch": {"model.norm": "batch", "model.upsampling": "transposed"},
    "instance": {"model.norm": "instance", "model.upsampling": "transposed"},
    "instance-nearest": {"model.norm": "instance", "model.upsampling": "nearest"},
}

LAPTOP = {
    "model.variant": "released",
    "data.image_size": 96,
    "data.augment.shorter_side": (96, 240),
    "train.num_steps": 400,
    "eval.resize": 192,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_loss", "style_loss", "content_loss")

CLAIMS = (
    {
        "id": "S1",
        "says": "instance normalization reaches a lower loss than batch normalization",
        "source": "Ulyanov, Vedaldi, Lempitsky 2016 (arXiv:1607.08022)",
        "published": "curves and pictures",
        "row": "instance",
        "against": "batch",
        "measure": "test_loss",
        "direction": "lower",
    },
)
