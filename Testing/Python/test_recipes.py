"""Recipes: each one loads, builds its network and learns; bases are followed; sizes are those of the paper."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch.nn.utils import parameters_to_vector
from torch.utils.flop_counter import FlopCounterMode

from dinsegment.errors import InputError
from dinsegment.inference.anatomy import STRIDE
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.network import DIN, DIN_SMALL, ComparatorConfig, DINConfig, build_network, count_parameters
from dinsegment.network.comparators import PACKAGES
from dinsegment.training.losses import din_loss
from dinsegment.training.recipe import RECIPES, list_recipes, load_recipe

NAMES = sorted(p.stem for p in RECIPES.glob("*.json"))
TABLES = sorted(name.partition("-")[2] for name in NAMES if name.startswith("acdc-table"))


SIZES = ("classes", "dims", "depths", "stem_stride", "layer_scale", "drop_path", "heads", "decoder_dim")
SIZES += ("merge_kernel", "expand_kernel", "decoder_layers", "in_channels", "options")


def first_of_each():
    """The whole network at both sizes, and of the experiments a recipe each, at whichever size comes first.

    Of those that are fitted to labels and have nothing frozen inside; test_cdal.py and test_grcsf.py have the others.
    """
    kept = {}
    for name in NAMES:
        recipe = load_recipe(name)
        if recipe.network.kind.learns != "supervised" or recipe.network.kind.frozen:
            continue
        experiment = {k: v for k, v in vars(recipe.network).items() if k not in SIZES or name == "acdc-din-base"}
        key = experiment, recipe.boundary_weight, recipe.preprocessing.enhancement
        kept.setdefault(repr(key), name)
    return list(kept.values())


TINY_SIZES = {
    "monai-unet": {"channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 1},
    "monai-attention-unet": {"channels": [4, 8, 16], "strides": [2, 2]},
    "monai-swin-unetr": {"feature_size": 12},
    "monai-segresnet": {"init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "monai-nnunet": {"filters": [4, 8, 8], "strides": [1, 2, 2]},
}

pytestmark = pytest.mark.usefixtures("one_thread")


def shrunk(config):
    """The same experiment at a size that a test can afford."""
    if isinstance(config, ComparatorConfig):
        if config.name == "monai-swin-unetr" and not find_spec(PACKAGES["SwinUNETR"][0]):
            pytest.skip("MONAI's SwinUNETR needs einops, which is not installed.")
        return replace(config, options=TINY_SIZES[config.name])
    sizes = {"dims": (8, 16, 16, 32), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "window": 4, "decoder_dim": 16}
    if config.backbone:  # whose sizes are its own
        return replace(config, decoder_dim=16, window=4)
    return replace(config, layer_scale=0.5, **sizes)


def discs(count=2, side=32):
    """Slices (count, side, side) in [-1, 1] with two nested discs in noise, and their labels."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    y, x = y * 32 / side, x * 32 / side
    radius = torch.stack([((y - 14 - n) ** 2 + (x - 17) ** 2).sqrt() for n in range(count)])
    labels = (radius < 11).long() + (radius < 8) + (radius < 4)
    image = labels / 2 - 0.8 + 0.1 * torch.randn(labels.shape, generator=random)
    return image.clamp(-1, 1), labels


def side_of(config):
    """Pixels that leave enough at the coarsest level; where the finest levels give nothing, enough at the others.

    Swin UNETR halves sides five times, and its normalisation needs more than one pixel in the end.
    """
    if isinstance(config, ComparatorConfig):
        return 64 if config.name == "monai-swin-unetr" else 32
    return max(32, 8 * config.stem_stride * 2**config.first_level)


def batch_of(recipe):
    image, labels = discs(side=side_of(recipe.network))
    labels = labels.clamp(max=recipe.network.classes - 1)
    enhanced = recipe.preprocessing.enhancement(image)
    channels = recipe.network.in_channels  # neighbours are as the slice itself
    image, enhanced = (x.unsqueeze(1).repeat(1, channels, 1, 1) for x in (image, enhanced))
    return image, enhanced, labels


# --- every recipe that comes with DINSegment ------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_with_a_network_of_its_tasks_classes(name):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.network.classes == recipe.task.classes


@pytest.mark.parametrize("name", NAMES)
def test_where_sides_matter_nothing_is_mirrored(name):
    """A network that is shown mirrored patients cannot learn which kidney is the left one."""
    recipe = load_recipe(name)
    if recipe.task.pairs:
        assert (recipe.augmentation.flip, recipe.augmentation.quarter_turn, recipe.augmentation.reverse) == (0, 0, 0)
        assert recipe.preprocessing.plane == "axial" and not recipe.preprocessing.mirror
    assert recipe.preprocessing.grey_window == recipe.task.grey_window
    assert all(n % STRIDE == 0 for n in recipe.preprocessing.box)


def test_a_recipe_of_a_kind_that_its_task_does_not_name_is_refused(write):
    file = write("mine", base="abdomen-din-small", network={"name": "cdal", "classes": 9})
    assert "gives samples, but the task 'abdomen' names probabilities" in complaint(file)


@pytest.mark.parametrize("name", [n for n in NAMES if load_recipe(n).network.kind.returns == "samples"])
def test_sizes_of_a_diffusion_fit_its_box(name):
    """Levels of attention are where the paper has it, 16 and 8 pixels wide, and the discriminator has pixels left."""
    recipe = load_recipe(name)
    network, box = recipe.network, recipe.preprocessing.box
    assert all(side % network.stride == 0 for side in box)
    assert [box[0] // 2**level for level in network.attention] in ([16, 8], [14, 7])
    assert box[0] // 2 ** (len(network.discriminator_multipliers) - 1) >= 4


def test_what_cdal_is_compared_with_has_as_many_parameters_and_sees_as_much():
    names = (("hippocampus-cdal-small", "hippocampus-unet-small"), ("heart-cdal-small", "heart-din-small"))
    for pair in names:
        recipes = [load_recipe(name) for name in pair]
        with torch.device("meta"):
            counts = [sum(p.numel() for p in build_network(r.network).parameters()) for r in recipes]
        assert counts[0] == pytest.approx(counts[1], rel=0.05)
    same = ("batch", "epochs", "preprocessing", "augmentation", "ema", "task")
    cdal, unet = map(load_recipe, names[0])
    assert all(getattr(cdal, name) == getattr(unet, name) for name in same)


def test_what_grcsf_is_compared_with_has_as_many_parameters_and_sees_as_much():
    recipes = [load_recipe(f"infarct-{name}-small") for name in ("grcsf", "unet", "din")]
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build_network(r.network).parameters()) for r in recipes]
    assert counts == [pytest.approx(counts[0], rel=0.05)] * 3
    same = ("batch", "epochs", "preprocessing", "augmentation", "ema", "task", "balance", "learning_rate", "seed")
    assert all(getattr(r, name) == getattr(recipes[0], name) for name in same for r in recipes)


def test_grcsf_asks_the_autoencoders_that_recipes_train_and_its_ablations_leave_out_one_thing():
    grcsf = load_recipe("infarct-grcsf-small").network
    trained = [load_recipe(f"infarct-autoencoder-{percent}") for percent in (50, 75)]
    assert [r.network for r in trained] == list(grcsf.autoencoders)
    assert all(r.preprocessing == load_recipe("infarct-grcsf-small").preprocessing for r in trained)
    changes = {"without-gcu": {"gcu": False}, "without-rcu": {"rcu": ()}, "one-ratio": {"ratios": (0.75,)}}
    for name, change in changes.items():
        ablation = load_recipe(f"infarct-grcsf-{name}")
        assert ablation.network == replace(grcsf, **change) and ablation.loss == "dice-focal"


def test_a_loss_that_there_is_not_is_told_of(write):
    said = complaint(write("mine", base="heart-din-small", loss="l2"))
    assert "'loss' is one of din, dice-focal, focal, not 'l2'" in said


@pytest.mark.parametrize("name", first_of_each())
def test_gradients_reach_every_weight_of_its_network(name):
    recipe = load_recipe(name)
    torch.manual_seed(3)
    network = build_network(shrunk(recipe.network))
    image, enhanced, labels = batch_of(recipe)
    logits = network(image, enhanced)
    assert logits.shape == (2, recipe.task.classes, *image.shape[2:])
    din_loss(logits, labels, recipe.boundary_weight).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    # Vectors may have none: a bias before a normalisation, for one, changes nothing.
    assert [n for n, p in network.named_parameters() if p.ndim > 1 and not p.grad.any()] == []


@pytest.mark.parametrize("name", first_of_each())
def test_a_network_learns(name):
    recipe = load_recipe(name)
    torch.manual_seed(0)
    network = build_network(shrunk(recipe.network))
    image, enhanced, labels = batch_of(recipe)
    # A backbone keeps its full depth, in which so long steps end in NaN.
    rate = 1e-3 if getattr(recipe.network, "backbone", "") else 1e-2
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, fused=True)
    losses: list[float] = []
    while len(losses) < 80 and (not losses or losses[-1] >= 0.75 * losses[0]):  # a coarse output learns slowly
        loss = din_loss(network(image, enhanced), labels, recipe.boundary_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert len(losses) > 1 and losses[-1] < 0.75 * losses[0]


def test_each_recipe_has_a_line_that_tells_it_from_all_others():
    listed = list_recipes()
    assert list(listed) == NAMES
    assert all(text and text.endswith(".") and "\n" not in text for text in listed.values())
    assert len(set(listed.values())) == len(listed)
    assert all(load_recipe(name).description == text for name, text in listed.items())


def test_no_two_recipes_make_the_same_experiment():
    recipes = [replace(load_recipe(name), name="", description="") for name in NAMES]
    assert all(a != b for n, a in enumerate(recipes) for b in recipes[:n])


def test_the_recipe_as_published():
    recipe = load_recipe("acdc-din-base")
    assert recipe.network == DINConfig(classes=4)
    assert (recipe.learning_rate, recipe.batch, recipe.epochs, recipe.boundary_weight) == (1e-4, 3, 300, 1.0)
    assert recipe.preprocessing.box == (224, 224) and recipe.preprocessing.enhancement.method == "fuzzy"
    varied = {"overview", "quarter_turn", "scale", "shift", "window", "gamma", "crop"}
    assert all(getattr(recipe.augmentation, name) == 0 for name in varied)
    assert all(getattr(recipe.augmentation, name)[0] == 0 for name in ("elastic", "noise", "blur", "bias"))
    assert recipe.augmentation.flip > 0 and recipe.augmentation.rotation > 0


@pytest.mark.parametrize("table", TABLES)
def test_a_row_of_a_table_differs_from_the_whole_only_in_what_it_is_about(table):
    for prefix, whole in (("acdc", "acdc-din-base"), ("small", "heart-din-small")):
        row, base = load_recipe(f"{prefix}-{table}"), load_recipe(whole)
        differs = {k for k, v in vars(row).items() if v != getattr(base, k)} - {"name", "description"}
        allowed = {"table4": {"network", "preprocessing"}, "table3": {"network", "boundary_weight"}}
        assert differs and differs <= allowed.get(table.partition("-")[0], {"network"})
        if row.preprocessing != base.preprocessing:
            assert replace(row.preprocessing, enhancement=base.preprocessing.enhancement) == base.preprocessing
        if isinstance(row.network, DINConfig):
            changed = {k for k, v in vars(row.network).items() if v != getattr(base.network, k)}
            assert not changed & {"dims", "depths", "stem_stride", "heads", "classes", "decoder_dim"}


# --- sizes ----------------------------------------------------------------------------------------


def sizes(name):
    """Parameters of a recipe's network in millions: encoders, fusion, decoder, total."""
    with torch.device("meta"):
        network = build_network(load_recipe(name).network)
    return {part: count / 1e6 for part, count in count_parameters(network).items()}


def test_the_published_size_beside_the_tables_networks():
    base = sizes("acdc-din-base")
    assert base["total"] == pytest.approx(323.31, rel=0.03)
    assert base["fusion"] == pytest.approx(119.94, rel=0.1)
    for name in ("acdc-table4-only-image", "acdc-table4-only-enhanced", "acdc-table5-input"):
        one = sizes(name)
        # Without a fusion there is no f_edge, whose convolutions are a small part of an encoder.
        assert one["fusion"] == 0 and one["encoders"] == pytest.approx(178 / 2, rel=0.02)
    concatenation = sizes("acdc-table5-concatenation")
    assert concatenation["fusion"] == pytest.approx(2 * sum(c * c for c in (128, 256, 512, 1024)) / 1e6, rel=1e-3)
    assert sizes("acdc-table7-image-to-enhanced") == sizes("acdc-table7-enhanced-to-image")
    assert sizes("acdc-table7-image-to-enhanced")["fusion"] < base["fusion"]
    assert sizes("acdc-table11-emcad")["decoder"] < base["decoder"]
    assert sizes("acdc-table3-no-boundary-loss") == base
    fusions = [sizes(f"acdc-table6-{n}")["fusion"] for n in ("one-difm", "two-difms", "three-difms")]
    assert fusions == sorted(fusions) and fusions[-1] < base["fusion"]


@pytest.mark.parametrize("kind", ["unet", "attention-unet", "swin-unetr", "segresnet", "nnunet"])
def test_small_comparators_have_about_as_many_parameters_as_din_small(kind):
    if kind == "swin-unetr":
        shrunk(load_recipe("small-monai-swin-unetr").network)
    with torch.device("meta"):
        ours, theirs = (build_network(load_recipe(n).network) for n in ("heart-din-small", f"small-monai-{kind}"))
    count = sum(p.numel() for p in ours.parameters())
    assert sum(p.numel() for p in theirs.parameters()) == pytest.approx(count, rel=0.12)


@pytest.mark.parametrize("name", ["acdc-table5-concatenation", "acdc-table11-emcad", "acdc-monai-nnunet"])
def test_full_size_networks_take_a_full_size_slice(name):
    with torch.device("meta"):
        network = build_network(load_recipe(name).network).eval()
    slices = torch.empty(3, 1, 224, 224, device="meta")
    with FlopCounterMode(display=False) as counter:
        assert network(slices, slices).shape == (3, 4, 224, 224)
    assert counter.get_total_flops() / 2 / 3 < 1860.09e9  # the published network's multiply-accumulates


# --- bases ----------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    """Writes a recipe file and gives its path."""

    def to_file(name, **options):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"name": name, **options}), encoding="utf-8")
        return str(path)

    return to_file


def complaint(file):
    with pytest.raises(InputError) as caught:
        load_recipe(file)
    text = str(caught.value)
    assert text and "\n" not in text and text.endswith(".") and not text.endswith("..")
    return text


def test_a_recipe_says_only_what_differs_from_its_base(write):
    file = write("mine", base="heart-din-small", batch=5, network={"window": 4}, preprocessing={"box": 96})
    mine, base = load_recipe(file), load_recipe("heart-din-small")
    assert mine.network == replace(DIN_SMALL, window=4)
    assert mine.preprocessing == replace(base.preprocessing, box=96) and mine.batch == 5
    assert mine == replace(
        base, name="mine", description="", batch=5, network=mine.network, preprocessing=mine.preprocessing
    )


def test_bases_have_bases_and_files_beside_a_recipe_are_found(write):
    write("first", base="heart-din-small", epochs=7, batch=5, description="The first.")
    second = load_recipe(write("second", base="first.json", batch=6))
    assert (second.epochs, second.batch, second.name, second.description) == (7, 6, "second", "")


def test_another_method_or_network_does_not_inherit_what_belongs_to_the_bases(write):
    file = write(
        "mine",
        base="heart-din-small",
        preprocessing={"enhancement": {"method": "clahe"}},
        network={"name": "monai-unet", "classes": 4},
    )
    mine = load_recipe(file)
    assert mine.preprocessing.enhancement.parameters == {}  # m, n and gamma are those of 'fuzzy'
    assert mine.network == ComparatorConfig("monai-unet", classes=4)
    same = load_recipe(write("same", base="heart-din-small", preprocessing={"enhancement": {"method": "fuzzy"}}))
    assert same.preprocessing == load_recipe("heart-din-small").preprocessing


def test_a_base_that_there_is_not(write):
    text = complaint(write("mine", base="hart"))
    assert "'hart'" in text and "mine.json" in text and "is it heart-" in text


def test_bases_that_go_round_in_a_circle(write):
    write("a", base="b.json")
    write("b", base="c.json")
    text = complaint(write("c", base="a.json"))
    assert "circle" in text and text.endswith(" c -> a -> b -> c.")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epoch": 3}, "no entry 'epoch'"),
        ({"network": {"width": 3}}, "'width'"),
        ({"network": {"name": "monai-unet", "width": 3}}, "'width'"),
        ({"network": {"name": "monai-vnet"}}, "'monai-vnet'"),
        ({"network": {"fusion": "sum"}}, "difm, concatenation, input, none, not 'sum'"),
        ({"preprocessing": {"enhancement": {"method": "magic"}}}, "'magic'"),
        ({"preprocessing": {"voxels": 3}}, "voxels"),
    ],
    ids=str,
)
def test_an_unknown_entry_over_a_base_is_named(write, changes, named):
    assert named in complaint(write("mine", base="heart-din-small", **changes))


def test_a_recipe_without_a_base_needs_the_entries_that_have_no_default(write):
    assert "no entry 'task', 'network', 'preprocessing'" in complaint(write("mine", batch=3))
    assert load_recipe(write("m", base="heart-din-small")).preprocessing.box == Preprocessing().box == (112, 112)


# --- comparators ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY_SIZES)
@pytest.mark.parametrize("inputs", ["image", "enhanced", "both"])
def test_a_comparator_sees_what_it_is_to_see_at_any_size(name, inputs):
    channels = 3 if inputs == "both" else 1
    config = shrunk(ComparatorConfig(name, classes=3, inputs=inputs, in_channels=channels))
    network = build_network(ComparatorConfig.from_dict(json.loads(json.dumps(config.to_dict())))).eval()
    image, enhanced = torch.randn(2, 1, channels, 37, 44, requires_grad=True).unbind(0)
    image.retain_grad(), enhanced.retain_grad()
    logits = network(image, enhanced)
    assert logits.shape == (1, 3, 37, 44) and network.config == config and network.values_per_pixel > 0
    logits.square().sum().backward()
    seen = [x.grad is not None and bool(x.grad.any()) for x in (image, enhanced)]
    assert seen == [inputs != "enhanced", inputs != "image"]


@pytest.mark.parametrize("name", TINY_SIZES)
def test_weights_of_a_comparator_travel_through_a_network_without_memory(name):
    config = shrunk(ComparatorConfig(name))
    network = build_network(config).eval()
    with torch.device("meta"):
        other = build_network(config.to_dict())
    assert all(p.is_meta for p in other.parameters())
    other.load_state_dict(network.state_dict(), assign=True)
    x = torch.randn(1, 1, side_of(config), side_of(config))
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(x, x), network(x, x))
    assert torch.equal(parameters_to_vector(other.parameters()), parameters_to_vector(network.parameters()))


def test_comparators_that_cannot_be_are_answered_in_words(monkeypatch):
    for options, named in (
        ({"name": "monai-vnet"}, "no network 'monai-vnet'.*monai-unet"),
        ({"name": "monai-unet", "inputs": "E"}, "'inputs' of 'monai-unet'"),
        ({"name": "monai-unet", "filters": [4]}, "'monai-unet' has no option 'filters'"),
    ):
        with pytest.raises(ValueError, match=named):
            build_network(options)
    with pytest.raises(InputError, match=r"'monai-unet' cannot have these options.*filters"):
        build_network({"name": "monai-unet", "options": {"filters": [4]}})
    monkeypatch.setitem(__import__("sys").modules, "monai", None)
    with pytest.raises(InputError, match=r"'monai-unet' needs the package monai: pip install"):
        build_network({"name": "monai-unet"})


def test_options_without_a_name_are_those_of_a_din():
    network = build_network(shrunk(DIN_SMALL).to_dict())
    assert isinstance(network, DIN) and network.config == shrunk(DIN_SMALL)
