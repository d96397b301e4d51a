"""What do several crops of an image gain over one, and several networks over one?

Krizhevsky, Sutskever, Hinton 2012, table 1 and section 4.1 (ILSVRC-2010): top-1 / top-5 error 37.5 / 17.0 % by 10
crops, 39.0 / 18.3 % by one. Simonyan, Zisserman 2015 (arXiv:1409.1556), table 5, D: dense 24.8 %, 150 crops 24.6 %,
both 24.4 %. Szegedy et al. 2015 (arXiv:1409.4842), table 3: top-5 error 10.07 % by one network and crop, 9.15 % by 10
crops, 7.89 % by 144, 6.67 % by seven networks and 144 crops. Only on ImageNet: not yet run.

Rows: one crop of the image enlarged to 256 pixels as AlexNet's, one of the image at 224, which sees all of its shorter
side.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "crop-256"

ROWS = {
    "crop-256": {"eval.resize": 256},
    "whole-224": {"eval.resize": 224},
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = ()
