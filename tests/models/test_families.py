"""What every classifier must do: learn eight images, pass a gradient to every leaf, tell training from evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnn_research import models
from dnn_research.errors import UserError

CLASSES = 4

# The smallest images that a network takes with all of its layers at work, narrow where it can be.
FAMILIES = {
    "lenet": ("lenet", {}, (32, 32, 1)),
    "alexnet": ("alexnet", {"width_factor": 0.25, "weight_init": "modern"}, (35, 35, 3)),
    "alexnet-cifar": ("alexnet", {"width_factor": 0.25, "stem": "cifar", "weight_init": "modern"}, (16, 16, 3)),
    "alexnet-torchvision": (
        "alexnet",
        {"variant": "torchvision", "width_factor": 0.25, "weight_init": "modern"},
        (63, 63, 3),
    ),
    "vgg-A": ("vgg", {"variant": "A", "width_factor": 0.25, "weight_init": "modern"}, (32, 32, 3)),
    "vgg-C-bn": ("vgg", {"variant": "C", "width_factor": 0.125, "batch_norm": True}, (32, 32, 3)),
    "vgg-B-5x5-dense": (
        "vgg",
        {
            "variant": "B-5x5",
            "width_factor": 0.125,
            "weight_init": "modern",
            "fully_convolutional": True,
            "image_size": 32,
        },
        (32, 32, 3),
    ),
    "nin": ("nin", {"width_factor": 0.25, "weight_init": "modern"}, (16, 16, 3)),
    "nin-fc": (
        "nin",
        {"width_factor": 0.25, "weight_init": "modern", "head": "fc", "mlpconv": False, "dropout_rate": 0.0},
        (16, 16, 3),
    ),
    "googlenet": ("googlenet", {"width_factor": 0.125, "stem": "cifar", "weight_init": "modern"}, (20, 20, 3)),
    "googlenet-bn": ("googlenet", {"width_factor": 0.125, "batch_norm": True}, (80, 80, 3)),
    "googlenet-naive": (
        "googlenet",
        {"width_factor": 0.125, "batch_norm": True, "reductions": False, "stem": "cifar", "aux_heads": False},
        (8, 8, 3),
    ),
    "resnet": ("resnet", {"depth": 18, "width_factor": 0.125}, (32, 32, 3)),
    "resnet_cifar": ("resnet_cifar", {"depth": 8}, (8, 8, 3)),
    "mobilenet": ("mobilenet", {"width": 0.25, "lineage": "torch"}, (32, 32, 3)),
    "mobilenet-full": (
        "mobilenet",
        {"width": 0.25, "lineage": "keras", "separable": False, "shallow": True, "stem": "cifar"},
        (16, 16, 3),
    ),
}


def make(family):
    name, fields, image_shape = FAMILIES[family]
    network = models.create(name, **fields, num_classes=CLASSES)
    return network, models.initialize(network, jax.random.key(0), image_shape), image_shape


def features(network, variables, images, **more):
    """Name -> shape and type of each activation, in the network's order (JAX sorts the keys of what it returns)."""
    found = {}

    def run(variables):
        for name, activation in network.apply(variables, images, method="features", **more).items():
            found[name] = jax.ShapeDtypeStruct(activation.shape, activation.dtype)

    jax.eval_shape(run, variables)
    return found


def eight_images(image_shape):
    random = np.random.default_rng(0)
    return jnp.asarray(random.normal(size=(8, *image_shape)), jnp.float32), jnp.arange(8) % CLASSES


def test_no_network_is_missing():
    assert {name for name, *_ in FAMILIES.values()} == set(models.MODELS) - set(models.IMAGE_NETWORKS)


@pytest.mark.parametrize("family", FAMILIES)
def test_learns_eight_images_with_a_gradient_on_every_leaf(family):
    network, variables, image_shape = make(family)
    images, labels = eight_images(image_shape)
    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    optimizer = optax.adam(2e-3)

    def loss(params, state, key):
        made, new = network.apply(
            {"params": params, **state}, images, train=True, mutable=list(state), rngs={"dropout": key}
        )
        heads = made if isinstance(made, tuple) else (made,)
        losses = [optax.softmax_cross_entropy_with_integer_labels(head, labels).mean() for head in heads]
        return losses[0] + 0.3 * sum(losses[1:]), (new, losses[0], heads[0])

    @jax.jit
    def step(params, state, opt_state, key):
        grads, (state, value, logits) = jax.grad(loss, has_aux=True)(params, state, key)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), state, opt_state, value, logits, grads

    opt_state, first, largest = optimizer.init(params), None, None
    for number in range(300):
        key = jax.random.fold_in(jax.random.key(1), number)
        params, state, opt_state, value, logits, grads = step(params, state, opt_state, key)
        sizes = jax.tree.map(lambda g: jnp.abs(g).max(), grads)
        largest = sizes if largest is None else jax.tree.map(jnp.maximum, largest, sizes)
        first = value if first is None else first
        if number > 10 and value < 0.1 and (jnp.argmax(logits, -1) == labels).all():
            break
    assert value < 0.1 < first
    for path, size in jax.tree_util.tree_leaves_with_path(largest):
        assert 0 < size < np.inf, jax.tree_util.keystr(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_end_in_the_logits_and_stop_where_told(family):
    network, variables, image_shape = make(family)
    images = eight_images(image_shape)[0][:2]
    everything = features(network, variables, images)
    names = list(everything)
    assert everything[names[-1]].shape == (2, CLASSES)
    logits = jax.eval_shape(lambda v: network.apply(v, images), variables)
    assert (logits.shape, logits.dtype) == ((2, CLASSES), jnp.float32)
    middle = names[len(names) // 2]
    assert list(features(network, variables, images, upto=middle)) == names[: names.index(middle) + 1]
    with pytest.raises(UserError, match="there is no activation 'conv99'"):
        network.apply(variables, images, method="features", upto="conv99")


@pytest.mark.parametrize("family", FAMILIES)
def test_computes_in_half_precision_and_gives_float32(family):
    name, fields, image_shape = FAMILIES[family]
    network = models.create(name, **fields, num_classes=CLASSES, dtype=jnp.bfloat16)
    images = eight_images(image_shape)[0][:2]
    variables = models.shapes(network, image_shape)
    out = features(network, variables, images)
    assert next(iter(out.values())).dtype == jnp.bfloat16
    assert list(out.values())[-1].dtype == jnp.float32
    # What `upto` the logits gives are these, too.
    last = list(out)[-1]
    assert features(network, variables, images, upto=last)[last].dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "fields", "size"),
    [
        ("alexnet", {}, 10),
        ("alexnet", {"variant": "torchvision"}, 62),
        ("vgg", {}, 31),
        ("vgg", {"fully_convolutional": True}, 200),
        ("nin", {"variant": "imagenet"}, 10),
        ("googlenet", {}, 64),
        ("mobilenet", {}, 31),
        ("resnet", {}, 31),
    ],
)
def test_images_that_are_too_small_are_refused(name, fields, size):
    with pytest.raises(UserError, match="images"):
        models.shapes(models.create(name, **fields), (size, size, 3))
