"""What do the layers that content and style are compared in do to the picture?

Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), figures 3 and 4: what is reconstructed from a higher layer keeps
content and arrangement, but not colour, texture and exact shape; a style in higher layers carries larger structures.
The paper's content is in relu2_2, its released code's in relu3_3.

Rows: content in relu2_2 and in relu3_3 with all style layers (four, at the laptop scale relu1_1 too), which have their
style loss in common; and one style layer at a time, which have their content loss in common. The pictures are in each
run's TensorBoard (`stylized/`, with record.images above 0). The laptop scale: 400 steps of two 96-pixel crops of
thirteen built-in photographs, the published half-width network.
"""

BASELINE = "configs/style_transfer.py"

BASELINE_ROW = "content-relu2_2"

ROWS = {
    "content-relu2_2": {"task.content_layer": "relu2_2"},
    "content-relu3_3": {"task.content_layer": "relu3_3"},
    "style-relu1_2": {"task.style_layers": ("relu1_2",)},
    "style-relu4_3": {"task.style_layers": ("relu4_3",)},
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

MEASURES = ("style_loss", "content_loss")

CLAIMS = (
    {
        "id": "S2",
        "says": "content in relu3_3 leaves the style more freedom: its loss is lower",
        "source": "Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), figure 3",
        "published": "pictures",
        "row": "content-relu3_3",
        "against": "content-relu2_2",
        "measure": "style_loss",
        "direction": "lower",
    },
)
