"""Which choices of the transform network and its losses matter: normalization, layers, up-sampling?

Ulyanov, Vedaldi, Lempitsky 2016 (arXiv:1607.08022): instance normalization makes better pictures than batch
normalization. Johnson et al. 2016 compare contents in relu2_2 and their released code in relu3_3, which keeps less of
the photograph; figure 4 of the paper shows what single style layers carry. Odena, Dumoulin, Olah 2016: transposed
convolutions leave checkerboards that repeated pixels do not.

Rows: batch against instance normalization; content in relu2_2 against relu3_3; one style layer at a time; up-sampling.
Rows with the same losses compare by them, others by their pictures (TensorBoard, `stylized/`).

Not yet run.

Command: python -m dnn_research.main --config experiments/style_transfer.py:batch_norm,laptop
"""

BASELINE = "configs/style_transfer.py"

ROWS = {
    "instance_norm": {"model.norm": "instance"},
    "batch_norm": {"model.norm": "batch"},
    "content_relu2_2": {"model.norm": "instance", "task.content_layer": "relu2_2"},
    "content_relu3_3": {"model.norm": "instance", "task.content_layer": "relu3_3"},
    "style_relu1_2": {"model.norm": "instance", "task.style_layers": ("relu1_2",)},
    "style_relu2_2": {"model.norm": "instance", "task.style_layers": ("relu2_2",)},
    "style_relu3_3": {"model.norm": "instance", "task.style_layers": ("relu3_3",)},
    "style_relu4_3": {"model.norm": "instance", "task.style_layers": ("relu4_3",)},
    "transposed": {"model.norm": "instance", "model.upsampling": "transposed"},
    "nearest": {"model.norm": "instance", "model.upsampling": "nearest"},
}

SEEDS = (0,)

CLAIMS = {"instance normalization is better": "eval/loss: instance_norm < batch_norm"}
